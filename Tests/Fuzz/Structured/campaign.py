#!/usr/bin/env python3
"""Runs the tools on changed checkpoints and checks what is promised for untrusted files.

Usage: campaign.py [--cases N] [--seed S] [--keep FOLDER] [--tools FOLDER]

For each case one sound checkpoint is copied and changed, so that its containers stay sound (see mutations.py), and every
command reads it. Promised are: an exit code of the contract and no signal, no more than 10 s and 1 GB, no control characters
of the input on the terminal, and that an output which a tool calls complete is one that `checksums` accepts. A case that
breaks a promise is kept in FOLDER with its commands.
"""

import argparse
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time

from mutations import mutate

ROOT = pathlib.Path(__file__).resolve().parents[3]
EXIT_CODES = {0, 1, 64, 65, 66, 73, 74}
SECONDS, BYTES = 10, 1 << 30


def make_bases(tools, folder):
    """Small sound checkpoints: as published, as GGUF of two kinds, under three schemes, in parts."""
    source = folder / "bf16"

    def run(tool, *arguments):
        subprocess.run([tools / tool, *arguments], check=True, capture_output=True)

    run("checkpoint-generator", "slice", source, "--layers", "2", "--experts", "4", "--width-divisor", "64")
    for name, options in {
        "gguf-q8": ["--to", "gguf", "--quantize", "Q8_0"],
        "gguf-f16": ["--to", "gguf", "--quantize", "F16"],
        "fp8-block": ["--to", "safetensors", "--quantize", "FP8_BLOCK"],
        "nvfp4": ["--to", "safetensors", "--quantize", "NVFP4A16"],
        "int8": ["--to", "safetensors", "--quantize", "W8A8_INT8"],
        "parts": ["--to", "safetensors", "--partition", "afd", "--ffn-ep", "2"],
    }.items():
        run("step3-convert", source, folder / name, *options, "--allow-fallback")
    # Unfinished outputs are for other tests: here the files are untrusted.
    for manifest in folder.glob("*/manifest.json"):
        if manifest.parent.name != "parts":
            manifest.unlink()
    return sorted(path for path in folder.iterdir() if path.is_dir())


def commands(rng, case, base, output):
    """The commands that read the changed checkpoint: all of them, with a random selection of options."""
    quantize = rng.choice(["Q4_K_M", "Q8_0", "IQ4_NL", "MXFP4_MOE", "BF16", "keep"])
    scheme = rng.choice(["W4A16", "NVFP4A16", "FP8_BLOCK", "W8A8_INT8", "MXFP4", "keep", "BF16"])
    form = rng.choice(
        [
            ["--to", "gguf", "--quantize", quantize],
            ["--to", "safetensors", "--quantize", scheme],
            ["--to", "safetensors", "--partition", "afd", "--ffn-ep", "2"],
            ["--to", "safetensors", "--partition", "tp", "--tp", "2"],
            ["--to", "archive"],
        ]
    )
    yield ["step3-inspect", "list", case]
    yield ["step3-inspect", "list", case, "--json"]
    yield ["step3-inspect", "stats", case]
    yield ["step3-inspect", "metadata", case]
    yield ["step3-inspect", "diff", case, base]
    yield ["step3-convert", case, output, *form, "--dry-run"]
    yield ["step3-verify", "engine", case, "--engine", rng.choice(["vllm", "sglang"]), "--tp", rng.choice(["1", "2", "3"])]
    yield ["step3-verify", "tensors", case, "--against", base]
    yield ["step3-convert", case, output, *form, "--allow-fallback", *rng.choice([[], ["--allow-nonfinite"]])]


def run(tools, command):
    """(exit code, seconds, peak bytes, output)."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as captured:
        process = subprocess.Popen(
            [tools / command[0], *map(str, command[1:])], stdin=subprocess.DEVNULL, stdout=captured, stderr=captured,
            env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - start > 6 * SECONDS:
                process.kill()
            time.sleep(0.002)
        process.returncode = os.waitstatus_to_exitcode(status)
        captured.seek(0)
        text = captured.read(1 << 24)
    # Processor time, not elapsed time: the machine may be busy.
    return process.returncode, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, text


def broken_promise(code, seconds, peak, text):
    if code not in EXIT_CODES:
        return f"exit code {code}"
    if seconds > SECONDS:
        return f"{seconds:.1f} s of processor time"
    if peak > BYTES:
        return f"{peak >> 20} MiB of memory"
    control = sorted({byte for byte in text if byte < 0x20 and byte not in (0x09, 0x0A, 0x0D)} | ({0x7F} & set(text)))
    if control:
        return f"control characters {control} on the terminal"
    if code != 0 and not text.strip():
        return f"exit code {code} without a word"
    return None


def run_case(tools, bases, folder, seed):
    """Runs one case. Returns [(command, what broke, output)] and how many commands ran."""
    rng = random.Random(seed)
    base = rng.choice(bases)
    case, output = folder / "case", folder / "output"
    for path in (case, output):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(base, case)
    if base.name == "parts" and rng.random() < 0.7:
        # Only one part's files, so that parts disagree with each other.
        mutate(rng, rng.choice(sorted(path for path in case.iterdir() if path.is_dir())))
    else:
        mutate(rng, case)
    broken, count = [], 0
    for command in commands(rng, case, base, output):
        result = run(tools, command)
        count += 1
        what = broken_promise(*result)
        if what is None and command[-1] != "--dry-run" and command[0] == "step3-convert" and result[0] == 0:
            check = ["step3-verify", "checksums", output, "--require-manifest"]
            if "archive" in command:
                check = ["step3-convert", "restore", output, "--check"]
            again = run(tools, check)
            count += 1
            if again[0] != 0:
                what, result = f"a complete output is refused with {again[0]}", again
        if what:
            broken.append((command, what, result[3]))
    return broken, count


def run_campaign(tools, cases, seed, keep=None, progress=lambda done, commands: None):
    """Runs cases. Returns the descriptions of broken promises, and how many commands ran."""
    failures, total = [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "bases").mkdir()
        bases = make_bases(tools, folder / "bases")
        for number in range(seed, seed + cases):
            broken, count = run_case(tools, bases, folder, number)
            total += count
            for command, what, text in broken:
                line = " ".join(str(word).replace(str(folder), "FOLDER") for word in command)
                failures.append(f"case {number}: {line}: {what}\n{text[-1500:].decode(errors='replace')}")
            if broken and keep:
                target = pathlib.Path(keep) / f"case-{number}"
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(folder / "case", target)
                (target / "commands.txt").write_text("\n".join(failures[-len(broken) :]))
            progress(number - seed + 1, total)
    return failures, total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", help="where cases that break a promise are kept")
    parser.add_argument("--tools", type=pathlib.Path, default=ROOT / ".build" / "release")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def progress(done, count):
        if done % 100 == 0:
            print(f"{done} of {options.cases} cases, {count} commands", flush=True)

    failures, count = run_campaign(options.tools, options.cases, options.seed, options.keep, progress)
    for failure in failures:
        print(failure)
    print(f"{options.cases} changed checkpoints, {count} commands, {len(failures)} promises broken")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
