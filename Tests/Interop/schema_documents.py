"""JSON documents of every kind that the tools print or write, in all their forms."""

import json
import shutil

import numpy
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from safetensors.numpy import load_file, save_file

from conftest import FIXTURES, ROOT

TINY = FIXTURES / "checkpoints" / "tiny"
FP8 = FIXTURES / "checkpoints" / "tiny-fp8"
ODD = FIXTURES / "checkpoints" / "odd"
TRAINED = FIXTURES / "checkpoints" / "trained"
TOKENS = TINY / "reference" / "text_064.safetensors"
AFD = ("--partition", "afd", "--ffn-ep", 2)


def commands(work):
    """(subcommand, arguments, exit code), in an order in which each finds its inputs."""
    text = work / "calibration.safetensors"
    rows = load_file(TRAINED / "text" / "calibration_tokens.safetensors")["input_ids"][:2, :64]
    save_file({"input_ids": numpy.ascontiguousarray(rows)}, text)
    (work / "answers.txt").write_text("the lighthouse keeper counted the boats " * 20)
    convert, inspect, verify = "step3-convert", "step3-inspect", "step3-verify"
    yield convert, ["recipes"], 0
    yield convert, ["plan", TINY, "--to", "gguf", "--quantize", "Q4_K_M"], 0
    yield convert, ["plan", TINY, "--to", "safetensors", "--quantize", "NVFP4A16"], 0
    yield convert, ["plan", FP8, "--to", "safetensors", *AFD, "--attention-tp", 2, "--output", work / "plan.json"], 0
    yield convert, ["plan", ODD, "--to", "gguf", "--quantize", "Q4_K_M", "--allow-fallback"], 0
    yield convert, ["plan", TINY, "--to", "gguf", "--gpu-memory", "1GB", "--context", 64, "--batch", 1, "--gpus", 2], 0
    yield convert, ["plan", TINY, "--to", "gguf", "--gpu-memory", "1MB", "--context", 64, "--batch", 1], 1
    yield convert, ["plan", TINY, "--to", "safetensors", *AFD, "--gpu-memory", "1GB", "--context", 64, "--batch", 1], 0
    yield convert, ["plan", TINY, "--deployment", ROOT / "Manuals/examples/report.yaml", "--compare"], 0
    yield convert, ["plan", TINY, "--deployment", ROOT / "Manuals/examples/2A2F.yaml"], 0
    yield convert, [TINY, work / "q4", "--to", "gguf", "--quantize", "Q4_K_M"], 0
    yield convert, [TINY, work / "q4", "--to", "gguf", "--quantize", "Q4_K_M", "--resume"], 0
    yield convert, [TINY, work / "w4", "--to", "safetensors", "--quantize", "W4A16"], 0
    yield convert, [TINY, work / "afd", "--to", "safetensors", *AFD], 0
    yield convert, [ODD, work / "odd", "--to", "gguf", "--quantize", "Q4_K_M", "--allow-fallback", "--discard-output"], 0
    yield convert, [TINY, work / "gone", "--to", "gguf", "--dry-run"], 0
    yield convert, [TINY, work / "arc", "--to", "safetensors", "--archive"], 0
    yield convert, [TRAINED, work / "budget", "--to", "gguf", "--target-bpw", 4.5], 0
    yield convert, [TRAINED, work / "gptq", "--to", "safetensors", "--quantize", "W4A16", "--method", "gptq",
                    "--calibration-tokens", text, "--min-expert-tokens", 0], 0
    yield convert, ["run", work / "plan.json", work / "planned", "--share", "1/2", "--dry-run"], 0
    yield convert, ["run", work / "plan.json", work / "planned", "--share", "1/2"], 0
    yield convert, ["run", work / "plan.json", work / "planned", "--share", "2/2"], 0
    yield convert, ["calibrate", TRAINED, work / "stats.gguf", "--tokens-file", text], 0
    yield convert, ["archive", TINY, work / "archive"], 0
    yield convert, ["archive", TINY, work / "archive", "--resume"], 0
    yield convert, ["restore", work / "archive", work / "restored"], 0
    yield convert, ["restore", work / "archive", "--check"], 0
    yield inspect, ["list", TINY], 0
    yield inspect, ["list", FP8, "--fold", "--sort", "size"], 0
    yield inspect, ["list", work / "afd", "--fold"], 0
    yield inspect, ["list", work / "q4", work / "arc"], 0
    yield inspect, ["list", work / "q4", work / "nowhere"], 66
    yield inspect, ["stats", FP8], 0
    yield inspect, ["stats", work / "q4", "--percentiles"], 0
    yield inspect, ["stats", str(work / "q*"), "--filter", "norm", "--histogram"], 0
    yield inspect, ["report", work / "q4", "--manifest", "--headers-only", "--output", work / "a.html"], 0
    yield inspect, ["report", work / "q4", "--against", TINY, "--output", work / "b.html"], 0
    yield inspect, ["diff", TINY, FP8], 1
    yield inspect, ["diff", TINY, FP8, "--headers-only"], 1
    yield inspect, ["diff", TINY, work / "afd"], 0
    yield inspect, ["diff", work / "afd/ffn-ep1", TINY], 1
    yield inspect, ["diff", TINY, ODD, "--filter", "norm|embed"], 1
    yield inspect, ["metadata", TINY], 0
    yield inspect, ["metadata", work / "q4"], 0
    private, public = keys(work)
    yield convert, ["sign", work / "q4", "--key", private, "--output", work / "q4.sig"], 0
    yield convert, ["sign", work / "w4", "--key", private, "--provenance", work / "w4.provenance"], 0
    yield verify, ["signature", work / "q4", "--public-key", public, "--signature", work / "q4.sig"], 0
    yield verify, ["signature", work / "w4", "--public-key", public, "--provenance", work / "w4.provenance"], 0
    yield verify, ["signature", work / "w4", "--public-key", keys(work, "other")[1]], 1
    yield verify, ["checksums", work / "q4"], 0
    yield verify, ["tensors", work / "q4", "--source", TINY], 0
    yield verify, ["tensors", work / "afd", "--source", TINY, "--all"], 0
    yield verify, ["tensors", work / "q4", "--source", ODD], 1
    yield verify, ["engine", work / "w4", "--tp", 2], 0
    yield verify, ["engine", FP8, "--tp", 3], 1
    yield verify, ["logits", work / "q4", "--reference", TINY, "--tokens-file", TOKENS, "--max-mean-kl", "1e-9"], 1
    yield verify, ["logits", work / "w4", "--reference", TINY, "--compare", work / "q4", "--tokens", "1,2,3"], 0
    yield verify, ["logits", work / "afd", "--reference", TINY, "--tokens", "1,2,3", "--afd"], 0
    yield verify, ["logits", TINY, "--reference", TOKENS], 0
    yield verify, ["logits", TINY, "--reference", TINY, "--tokens", "1,2,3", "--per-token", "--bisect"], 0
    shutil.copytree(TINY, work / "nan")
    poison(work / "nan", "model.layers.1.input_layernorm.weight")
    yield verify, ["logits", work / "nan", "--reference", TINY, "--tokens", "1,2,3"], 1
    yield verify, ["run", TINY, "--prompt", "The lighthouse keeper", "--generate", 3], 0
    yield verify, ["run", work / "afd", "--tokens", "1,2,3", "--afd"], 0
    yield verify, ["run", TINY, "--tokens", "1"], 0
    yield verify, ["all", work / "w4", "--source", TINY, "--tokens-file", TOKENS, "--tp", 2, "--public-key", public], 0
    yield verify, ["all", work / "q4", "--source", work / "nowhere"], 66
    damage(work / "q4" / "model.gguf")
    (work / "q4" / "extra.json").write_text("{}")
    damage(next((work / "archive").glob("*.zst")))
    yield verify, ["checksums", work / "q4"], 1
    yield verify, ["checksums", work / "q4", "--fast"], 1
    yield verify, ["signature", work / "q4", "--public-key", public, "--signature", work / "q4.sig"], 1
    yield verify, ["all", work / "q4", "--source", TINY], 1
    yield convert, ["restore", work / "archive", "--check"], 1
    yield inspect, ["nowhere"], 66
    yield inspect, ["lst", "x"], 64
    shutil.copy(TINY / "config.json", work / "config.safetensors")
    yield inspect, [work / "config.safetensors"], 65


def keys(work, name="key"):
    """A private key and its public half."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = work / f"{name}.pem", work / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def poison(directory, name):
    """Makes a BF16 tensor NaN."""
    shard = json.loads((directory / "model.safetensors.index.json").read_text())["weight_map"][name]
    data = bytearray((directory / shard).read_bytes())
    length = int.from_bytes(data[:8], "little")
    start, end = json.loads(data[8 : 8 + length])[name]["data_offsets"]
    data[8 + length + start : 8 + length + end] = b"\xc0\x7f" * ((end - start) // 2)
    (directory / shard).write_bytes(data)


def written(work):
    """(kind, document) for the files that the commands have written."""
    for kind, path in (
        ("manifest", "w4"), ("manifest", "afd"), ("manifest", "arc"), ("manifest", "budget"), ("manifest", "gptq")):
        yield kind, json.loads((work / path / "manifest.json").read_text())
    for path in ("arc", "archive"):
        yield "archive-manifest", json.loads((work / path / "archive.json").read_text())
    yield "stored-plan", json.loads((work / "plan.json").read_text())
