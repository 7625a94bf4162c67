"""The benefit of GPTQ: mean KL divergence on held-out tokens in each format, with and without it.

Usage: gptq_benchmark.py [--folder FOLDER] [FORMAT ...]

Prints the table of Manuals/calibration.md. Both are measured in one pass, so that the standard error of the difference is a
paired one. GGUF formats without GPTQ are encoded with the importance matrix of the same text.
"""

import argparse
import pathlib
import shutil
import sys
import tempfile

from budget_benchmark import TRAINED, run

CALIBRATION = TRAINED / "text" / "calibration_tokens.safetensors"
HELD_OUT = TRAINED / "text" / "heldout_tokens.safetensors"
SCHEMES = ["W4A16", "W4A16_G64", "W4A16_G32", "NVFP4A16", "MXFP4A16", "FP8_BLOCK", "FP8_DYNAMIC", "W8A8_INT8"]
BLOCKS = ["Q2_K", "Q3_K_S", "Q3_K_M", "Q4_0", "Q4_1", "IQ4_NL", "IQ4_XS", "Q4_K_S", "Q4_K_M", "MXFP4", "NVFP4", "Q5_0", "Q5_1", "Q5_K_M", "Q6_K", "Q8_0"]


def row(folder, title, arguments, without):
    gptq, other = folder / "gptq", folder / "without"
    run("step3-convert", TRAINED, gptq, *arguments, "--method", "gptq", "--calibration-tokens", CALIBRATION)
    run("step3-convert", TRAINED, other, *arguments, *without)
    measured = run("step3-verify", "logits", gptq, "--reference", TRAINED, "--compare", other, "--tokens-file", HELD_OUT)
    for output in (gptq, other):
        shutil.rmtree(output)
    mine, its, difference = measured["kl"], measured["compared"]["kl"], measured["compared"]["klDifference"]
    # The difference is the compared candidate's less ours.
    print(
        f"| {title} | {its['mean']:.5f} ± {its['standardError']:.5f} | {mine['mean']:.5f} ± {mine['standardError']:.5f} "
        f"| {-difference['value']:+.5f} ± {difference['standardError']:.5f} "
        f"| {100 * (mine['mean'] / its['mean'] - 1):+.0f} % |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("formats", nargs="*", default=SCHEMES + BLOCKS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = pathlib.Path(name)
        matrix = folder / "imatrix.gguf"
        run("step3-convert", "calibrate", TRAINED, matrix, "--tokens-file", CALIBRATION)
        print("| | without | GPTQ | difference | |\n|---|---|---|---|---|")
        for format in arguments.formats:
            if format in SCHEMES:
                for scope, words in (("experts", "experts"), ("linear", "all linear layers")):
                    row(folder, f"{format}, {words}", ("--to", "safetensors", "--quantize", format, "--scope", scope), ())
            else:
                row(folder, format, ("--to", "gguf", "--quantize", format, "--allow-fallback"), ("--imatrix", matrix))
    return 0


if __name__ == "__main__":
    sys.exit(main())
