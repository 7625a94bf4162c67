"""llama.cpp itself, from the PyPI wheel `xllamacpp`: loads a GGUF file and predicts the next token.

Runs as a program in a process of its own, because llama.cpp ends the process where it fails:

    python llama_cpp_runtime.py MODEL TOKENS FIRST VOCABULARY

prints a JSON array with an entry for each prefix of TOKENS of at least FIRST tokens: the log probabilities of
all next tokens, or null where the most probable one is not a whole character, for which its server reports nothing.

    python llama_cpp_runtime.py --open MODEL[+MMPROJ] ...

loads one file after the other and reports each as loaded.

    python llama_cpp_runtime.py --continue MODEL COUNT PROMPT [DRAFT]

prints, as JSON, the text that follows the prompt, a JSON string or an array of tokens, and how many tokens the layers of
prediction in DRAFT proposed on the way.
"""

import json
import os
import subprocess
import sys

# The architectures among the tests' outputs that it loads as whole models; `clip` accompanies one of the others.
ARCHITECTURES = {"step35", "qwen3", "gemma3"}


def next_tokens(model, tokens, first, vocabulary):
    """For each prefix of the tokens the log probabilities by token, or `None`."""
    command = [sys.executable, __file__, str(model), ",".join(map(str, tokens)), str(first), str(vocabulary)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    steps = json.loads(result.stdout.splitlines()[-1])
    return [step and {int(token): p for token, p in step.items()} for step in steps]


def refused(models, at_once=16):
    """The files that do not load, with the last message about each: {path: message}. A vision file is loaded
    with the model that it is beside, `model.gguf+mmproj.gguf`."""
    found, waiting = {}, list(models)
    while waiting:
        batch, waiting = waiting[:at_once], waiting[at_once:]
        command = [sys.executable, __file__, "--open", *batch]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300, check=False)
        opened = [line.removeprefix("opened ") for line in result.stdout.splitlines() if line.startswith("opened ")]
        if len(opened) < len(batch):
            # It ends the process at the first file that it refuses; the others are tried again.
            found[batch[len(opened)]] = " ".join(result.stderr.splitlines()[-6:])[-600:]
            waiting = batch[len(opened) + 1 :] + waiting
    return found


def continued(model, count, prompt, draft=None):
    """The greedy continuation of a prompt, and how many tokens were drafted."""
    command = [sys.executable, __file__, "--continue", str(model), str(count), json.dumps(prompt)]
    command += [str(draft)] if draft else []
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def server(model, context=512, mmproj=None, draft=None):
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    if mmproj:
        parameters.mmproj.path, parameters.mmproj_use_gpu = mmproj, False
    if draft:
        parameters.load_mtp = True
        parameters.speculative.draft.mparams.path = draft
        parameters.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_MTP]
    parameters.n_ctx, parameters.n_parallel, parameters.n_gpu_layers = context, 1, 0
    parameters.warmup = parameters.fit_params = False
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    # Its default rounding of keys and values would be the largest difference.
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    return xllamacpp.Server(parameters)


def finish():
    """Ends the process at once: closing a server waits for threads that may never answer."""
    sys.stdout.flush()
    os._exit(0)


def open_all(models):
    kept = []
    for name in models:
        model, _, mmproj = name.partition("+")
        kept.append(server(model, 64, mmproj))
        print(f"\nopened {name}", flush=True)
    finish()


def continue_prompt(model, count, prompt, draft=None):
    answer = server(model, draft=draft).handle_completions(
        {"prompt": json.loads(prompt), "n_predict": count, "temperature": 0.0, "samplers": ["top_k"], "top_k": 1, "cache_prompt": False}
    )
    print()
    print(json.dumps([answer["choices"][0]["text"], answer.get("timings", {}).get("draft_n", 0)]))
    finish()


def main(model, tokens, first, vocabulary):
    llama = server(model)
    steps = []
    for count in range(first, len(tokens) + 1):
        answer = llama.handle_completions(
            {
                "prompt": tokens[:count], "n_predict": 1, "temperature": 0.0, "n_probs": vocabulary,
                "cache_prompt": False, "samplers": ["top_k"], "top_k": 1,
            }
        )
        said = (answer["choices"][0]["logprobs"] or {"content": []})["content"]
        steps.append({p["id"]: p["logprob"] for p in said[0]["top_logprobs"]} if said else None)
    print()
    print(json.dumps(steps))
    finish()


if __name__ == "__main__":
    if sys.argv[1] == "--open":
        open_all(sys.argv[2:])
    elif sys.argv[1] == "--continue":
        continue_prompt(sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
    main(sys.argv[1], [int(token) for token in sys.argv[2].split(",")], int(sys.argv[3]), int(sys.argv[4]))
