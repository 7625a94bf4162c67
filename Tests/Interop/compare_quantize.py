"""Compares step3-convert with llama.cpp's `llama-quantize` on the same GGUF file, tensor by tensor. Run by hand.

    python Tests/Interop/compare_quantize.py LLAMA_QUANTIZE MODEL.gguf [--work DIRECTORY] [TYPE ...]

LLAMA_QUANTIZE is the program from a build of llama.cpp, which you provide. MODEL.gguf is any model that both read; its
types may be quantised already, in which case the program is told to requantise. Both write the same TYPE from the same
file; the types and bytes of all tensors are compared, and so is which tensors got another type. Needs the package `gguf`,
and the built tools.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf

TOOL = pathlib.Path(__file__).resolve().parents[2] / ".build" / "release" / "step3-convert"
TYPES = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_XS", "IQ4_NL"]


def tensors(path):
    return {t.name: (t.tensor_type.name, t.data.tobytes(), t.n_elements) for t in gguf.GGUFReader(path).tensors}


def run(command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="replace", check=False)
    if result.returncode != 0:
        sys.exit(f"{command[0]} ended with {result.returncode}: {result.stderr[-2000:]}")


def compare(quantize, model, kind, work):
    theirs, ours = work / f"{kind}.gguf", work / f"{kind}.ours"
    run([quantize, "--allow-requantize", model, theirs, kind])
    run([TOOL, model, ours, "--to", "gguf", "--quantize", kind])
    mine, its = tensors(ours / "model.gguf"), tensors(theirs)
    names = sorted(mine.keys() | its.keys())
    absent = [name for name in names if name not in mine or name not in its]
    other_type = [name for name in names if name not in absent and mine[name][0] != its[name][0]]
    other_bytes = [
        name for name in names if name not in absent + other_type and mine[name][1] != its[name][1]
    ]
    same = len(names) - len(absent) - len(other_type) - len(other_bytes)
    return {
        "type": kind, "tensors": len(names), "same": same, "other bytes": other_bytes, "other type":
        {name: (mine[name][0], its[name][0]) for name in other_type}, "in one only": absent,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("quantize", type=pathlib.Path, help="the program llama-quantize")
    parser.add_argument("model", type=pathlib.Path, help="a GGUF file")
    parser.add_argument("types", nargs="*", default=TYPES)
    parser.add_argument("--work", type=pathlib.Path, help="where outputs stay; a temporary directory otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or pathlib.Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        differ = False
        for kind in options.types:
            row = compare(options.quantize, options.model, kind, work)
            differ |= row["same"] != row["tensors"]
            print(f"{kind}: {row['same']} of {row['tensors']} tensors the same, byte for byte")
            for key in ("other type", "other bytes", "in one only"):
                if row[key]:
                    text = json.dumps(row[key])
                    print(f"  {key}: {text[:600]}{' ...' if len(text) > 600 else ''}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
