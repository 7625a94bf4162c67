"""One digest of the bytes of each kind of conversion: a change of the code must not change them.

    python conversion_digests.py --write     rewrites Fixtures/golden/conversions.txt

A change that is meant to change bytes rewrites the table and says in its commit message which lines changed, and why.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / "Fixtures" / "golden" / "conversions.txt"
CONVERT = ROOT / ".build" / "release" / "step3-convert"

GGUF = (
    "keep BF16 F16 F32 MXFP4_MOE Q5_K_M Q5_K_S Q4_K_M Q4_K_S Q3_K_L Q3_K_M Q3_K_S Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 "
    "Q2_K Q3_K Q4_K Q5_K Q6_K IQ3_XXS IQ4_NL IQ3_S IQ2_S IQ4_XS TQ1_0 TQ2_0 MXFP4 NVFP4 Q1_0 Q2_0"
).split()
SAFETENSORS = (
    "keep BF16 F16 F32 FP8_BLOCK FP8_DYNAMIC W8A8_INT8 W8A8_INT8_SGLANG W4A16 W4A16_G64 W4A16_G32 NVFP4A16 "
    "NVFP4A16_MODELOPT MXFP4 MXFP4A16"
).split()
ALL_LINEAR = ("--scope", "linear")
# Sources that are conversions themselves: every scheme and some block formats, read back.
CHAINS = {
    "nvfp4": ("tiny", "safetensors", "NVFP4A16"),
    "nvfp4-all": ("tiny", "safetensors", "NVFP4A16", *ALL_LINEAR),
    "modelopt": ("tiny", "safetensors", "NVFP4A16_MODELOPT"),
    "mxfp4": ("tiny", "safetensors", "MXFP4A16"),
    "w4a16": ("tiny", "safetensors", "W4A16_G32"),
    "int8": ("tiny", "safetensors", "W8A8_INT8"),
    "fp8-rows": ("tiny", "safetensors", "FP8_DYNAMIC"),
    "gguf-nvfp4": ("tiny", "gguf", "NVFP4"),
    "gguf-mxfp4": ("tiny", "gguf", "MXFP4"),
    "gguf-q4k": ("tiny", "gguf", "Q4_K_M"),
    "gguf-bf16": ("tiny-fp8", "gguf", "BF16"),
}
CHAINED = [
    ("gguf", "BF16"), ("gguf", "Q8_0"), ("gguf", "NVFP4"), ("gguf", "MXFP4"), ("safetensors", "BF16"),
    ("safetensors", "FP8_BLOCK"), ("safetensors", "NVFP4A16"), ("safetensors", "NVFP4A16_MODELOPT"),
    ("safetensors", "MXFP4"), ("safetensors", "W4A16_G32"),
]
PARTITIONS = [
    ("safetensors", "keep", "--partition", "afd", "--ffn-ep", "2"),
    ("safetensors", "BF16", "--partition", "afd", "--ffn-ep", "2", "--ffn-tp", "2", "--attention-tp", "2"),
    ("safetensors", "FP8_BLOCK", "--partition", "afd", "--ffn-ep", "3"),
    ("safetensors", "NVFP4A16", "--partition", "afd", "--ffn-ep", "2", "--ffn-tp", "2"),
    ("safetensors", "W4A16_G32", "--partition", "afd", "--ffn-tp", "2"),
    ("safetensors", "FP8_DYNAMIC", "--partition", "afd", "--ffn-tp", "2"),
    ("gguf", "Q8_0", "--partition", "afd", "--ffn-ep", "2"),
    ("gguf", "Q4_K", "--partition", "afd", "--attention-tp", "2"),
]


def conversions():
    """Every conversion: its name, where its source is (a fixture or a chain) and its arguments."""
    for fixture in ("tiny", "odd", "tiny-fp8", "odd-fp8"):
        for container, recipes in (("gguf", GGUF), ("safetensors", SAFETENSORS)):
            for recipe in recipes:
                yield fixture, (container, recipe)
        for scheme in SAFETENSORS[5:]:
            yield fixture, ("safetensors", scheme, *ALL_LINEAR)
        for cut in PARTITIONS:
            yield fixture, cut
        yield fixture, ("safetensors", "BF16", "--max-shard-size", "100kB")
        yield fixture, ("gguf", "Q8_0", "--max-shard-size", "100kB")
        yield fixture, ("safetensors", "keep", "--published-names")
        for search in ("absmax", "mse"):
            yield fixture, ("safetensors", "W4A16_G32", "--scale-search", search)
            yield fixture, ("safetensors", "FP8_DYNAMIC", "--scale-search", search)
    for chain in CHAINS:
        for target in CHAINED:
            yield chain, target


def digest(output):
    """One digest of all files and of the manifest without the plan."""
    total = hashlib.sha256()
    for path in sorted(output.rglob("*")):
        if path.is_file() and path.name != "manifest.json":
            total.update(f"{path.relative_to(output)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    manifest = json.loads((output / "manifest.json").read_text())
    for key in ("files", "tensors"):
        total.update(json.dumps(manifest[key], sort_keys=True).encode())
    return total.hexdigest()[:32]


def convert(source, output, container, recipe, *options):
    arguments = [CONVERT, source, output, "--to", container, "--quantize", recipe, *options]
    return subprocess.run(
        [str(argument) for argument in [*arguments, "--allow-fallback", "--progress", "none"]],
        capture_output=True, text=True, check=False)


def table(scratch):
    """A line for each conversion: its name, and its digest or the code of its refusal."""
    sources = {name: ROOT / "Fixtures" / "checkpoints" / name for name in ("tiny", "odd", "tiny-fp8", "odd-fp8")}
    for name, (fixture, container, *options) in CHAINS.items():
        sources[name] = scratch / f"source-{name}"
        result = convert(sources[fixture], sources[name], container, *options)
        assert result.returncode == 0, f"{name}: {result.stderr}"
    lines = []
    for source, arguments in conversions():
        output = scratch / "output"
        path = sources[source]
        if (path / "model.gguf").exists():
            path = path / "model.gguf"
        result = convert(path, output, *arguments)
        outcome = digest(output) if result.returncode == 0 else f"refused with {result.returncode}"
        lines.append(f"{source} {' '.join(arguments)}: {outcome}")
        shutil.rmtree(output, ignore_errors=True)
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        lines = table(pathlib.Path(scratch))
    if options.write:
        TABLE.write_text("\n".join(lines) + "\n")
    else:
        known = TABLE.read_text().splitlines()
        changed = [line for line in lines if line not in known] + [f"gone: {line}" for line in known if line not in lines]
        print("\n".join(changed) or f"all {len(lines)} conversions as before")
        raise SystemExit(1 if changed else 0)
