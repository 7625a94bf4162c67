"""The benefit of a size budget: mean KL divergence on held-out tokens, beside each fixed mixture at that mixture's size.

Usage: budget_benchmark.py [--folder FOLDER] [MIXTURE ...]

Prints the table of Manuals/calibration.md. Each pair is measured in one pass, so that the standard error of the difference
is a paired one. Fails where a budget is exceeded, or has a larger divergence than the mixture.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".build" / "release"
TRAINED = ROOT / "Fixtures" / "checkpoints" / "trained"
MIXTURES = ["Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "IQ3_S", "Q2_K"]


def run(tool, *arguments):
    command = [TOOLS / tool, *map(str, arguments), "--json", "--progress", "none"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{command} ended with {result.returncode}: {result.stderr}")
    return json.loads(result.stdout)


def size(folder):
    return sum(file.stat().st_size for file in folder.glob("*.gguf"))


def pair(folder, mixture, options):
    """Measures the mixture and the choice for its size."""
    fixed, budgeted = folder / "fixed", folder / "budgeted"
    run("step3-convert", TRAINED, fixed, "--to", "gguf", "--quantize", mixture, *options, "--allow-fallback")
    target = size(fixed)
    summary = run("step3-convert", TRAINED, budgeted, "--to", "gguf", "--target-size", target, *options)
    measured = run(
        "step3-verify", "logits", budgeted, "--reference", TRAINED, "--compare", fixed, "--tokens-file",
        TRAINED / "text" / "heldout_tokens.safetensors")
    left = target - size(budgeted)
    for output in (fixed, budgeted):
        shutil.rmtree(output)
    return target, left, measured, summary["budget"]["estimatedKL"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("mixtures", nargs="*", default=MIXTURES)
    arguments = parser.parse_args()
    holds = True
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = pathlib.Path(name)
        matrix = folder / "imatrix.gguf"
        run("step3-convert", "calibrate", TRAINED, matrix, "--tokens-file", TRAINED / "text" / "calibration_tokens.safetensors")
        print("| size of | MB | importance | mixture | budget | difference | less | estimate | bytes left |")
        print("|---|---|---|---|---|---|---|---|---|")
        for mixture in arguments.mixtures:
            for words, options in (("no", ()), ("yes", ("--imatrix", matrix))):
                target, left, measured, estimate = pair(folder, mixture, options)
                fixed, budgeted = measured["compared"]["kl"], measured["kl"]
                difference = measured["compared"]["klDifference"]
                holds &= left >= 0 and budgeted["mean"] <= fixed["mean"]
                print(
                    f"| {mixture} | {target / 1e6:.2f} | {words} "
                    f"| {fixed['mean']:.5f} ± {fixed['standardError']:.5f} "
                    f"| {budgeted['mean']:.5f} ± {budgeted['standardError']:.5f} "
                    f"| {-difference['value']:+.5f} ± {difference['standardError']:.5f} "
                    f"| {100 * (1 - budgeted['mean'] / fixed['mean']):.0f} % | {estimate:.5f} | {left} |",
                    flush=True)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
