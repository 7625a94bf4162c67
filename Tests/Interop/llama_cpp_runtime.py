"""llama.cpp itself, as the PyPI wheel `xllamacpp` carries it: it loads a GGUF file and says what may come next.

Run as a program in a process of its own, because it ends the process where it fails:

    python llama_cpp_runtime.py MODEL TOKENS FIRST VOCABULARY

prints a JSON array with an entry for each beginning of TOKENS of at least FIRST tokens: the logarithms of the probabilities of
all tokens that may follow, or null where the most probable one is no whole character, about which its server says nothing.
"""

import json
import subprocess
import sys


def next_tokens(model, tokens, first, vocabulary):
    """For each beginning of the tokens the logarithms of probabilities by token, or `None`."""
    command = [sys.executable, __file__, str(model), ",".join(map(str, tokens)), str(first), str(vocabulary)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    steps = json.loads(result.stdout.splitlines()[-1])
    return [step and {int(token): p for token, p in step.items()} for step in steps]


def main(model, tokens, first, vocabulary):
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.n_ctx, parameters.n_parallel, parameters.n_gpu_layers = 512, 1, 0
    parameters.warmup = parameters.fit_params = False
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    # Its own rounding of keys and values would be the largest difference.
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(parameters)
    steps = []
    for count in range(first, len(tokens) + 1):
        answer = server.handle_completions(
            {
                "prompt": tokens[:count], "n_predict": 1, "temperature": 0.0, "n_probs": vocabulary,
                "cache_prompt": False, "samplers": ["top_k"], "top_k": 1,
            }
        )
        said = (answer["choices"][0]["logprobs"] or {"content": []})["content"]
        steps.append({p["id"]: p["logprob"] for p in said[0]["top_logprobs"]} if said else None)
    print()
    print(json.dumps(steps))


if __name__ == "__main__":
    main(sys.argv[1], [int(token) for token in sys.argv[2].split(",")], int(sys.argv[3]), int(sys.argv[4]))
