"""Calibration's measurements, against a second implementation of the model in PyTorch."""

import json
import os
import signal
import subprocess
import time

import numpy
import pytest
import torch
from gguf import GGUFReader
from safetensors.numpy import load_file, save_file

from conftest import FIXTURES, TOOLS
from forward_oracle import Model, weights_of
from step3_names import gguf_name

TRAINED = FIXTURES / "checkpoints" / "trained"


def rows(count, length=256):
    """Some rows of the calibration text."""
    return load_file(TRAINED / "text" / "calibration_tokens.safetensors")["input_ids"][:count, :length]


def tokens_file(path, ids):
    save_file({"input_ids": numpy.ascontiguousarray(ids)}, path)
    return path


def squares(checkpoint, ids):
    """The oracle's sums: GGUF name -> ([matrices, columns] sums of squares, [matrices] counts)."""
    model = Model(checkpoint)
    sums = {}
    experts = model.config["moe_num_experts"]

    def seen(name, expert, rows):
        entry = sums.get(name)
        if entry is None:
            count = 1 if expert is None else experts
            entry = sums[name] = (torch.zeros(count, rows.shape[1], dtype=torch.float64), torch.zeros(count))
        entry[0][expert or 0] += rows.square().sum(0)
        entry[1][expert or 0] += len(rows)

    with torch.no_grad():
        for sequence in ids:
            model(torch.as_tensor(sequence)[None], seen)
    return {gguf_name(name): (a.numpy(), b.numpy()) for name, (a, b) in sums.items()}


def read(path):
    reader = GGUFReader(path)
    return reader, {tensor.name: tensor.data for tensor in reader.tensors}


@pytest.mark.parametrize("name", ["tiny", "odd", "trained"])
def test_the_sums_are_those_of_the_model(tools, tmp_path, name):
    checkpoint = FIXTURES / "checkpoints" / name
    # More tokens than are processed at a time, in sequences of unequal lengths.
    ids = rows(9).tolist() if name == "trained" else numpy.random.default_rng(3).integers(0, 500, (5, 60)).tolist()
    ids[1] = ids[1][:7]
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps(ids))
    out = tmp_path / "stats.gguf"
    summary = tools.json("step3-convert", "calibrate", checkpoint, out, "--tokens-file", file, "--min-expert-tokens", 0)
    expected = squares(checkpoint, ids)
    reader, tensors = read(out)
    assert reader.get_field("general.type").contents() == "imatrix"
    assert reader.get_field("imatrix.datasets").contents() == ["tokens.json"]
    assert reader.get_field("imatrix.chunk_count").contents() == len(ids)
    assert set(tensors) == {f"{key}.{part}" for key in expected for part in ("in_sum2", "counts")}
    assert list(tensors) == sorted(tensors, key=lambda key: (key.rsplit(".", 1)[0], key.endswith("counts")))
    assert summary["entries"] == len(expected) and summary["tokens"] == sum(map(len, ids))
    for key, (sums, counts) in expected.items():
        mine = tensors[f"{key}.in_sum2"].reshape(sums.shape).astype(numpy.float64)
        assert numpy.array_equal(tensors[f"{key}.counts"].reshape(-1), counts), key
        # Relative to each row's largest: a column that is nearly zero is a difference of large numbers.
        scale = numpy.maximum(sums, 1e-3 * sums.max(axis=1, keepdims=True))
        assert (numpy.abs(mine - sums) <= 1e-4 * scale).all(), key
    assert not (tmp_path / "stats.gguf.calibrating").exists()


def test_threads_and_memory_change_nothing(tools, tmp_path):
    file = tokens_file(tmp_path / "tokens.safetensors", rows(20))
    outputs = []
    for threads, memory in [(1, "128MiB"), (2, "1GiB"), (5, "3GiB")]:
        out = tmp_path / f"{threads}.gguf"
        tools.json("step3-convert", "calibrate", TRAINED, out, "--tokens-file", file, "--threads", threads, "--memory", memory)
        outputs.append(out.read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_killed_calibration_is_resumed(tools, tmp_path):
    file = tokens_file(tmp_path / "tokens.safetensors", rows(64))
    whole, out = tmp_path / "whole.gguf", tmp_path / "stats.gguf"
    arguments = ("--tokens-file", file, "--threads", 1)
    tools.json("step3-convert", "calibrate", TRAINED, whole, *arguments)
    state = tmp_path / "stats.gguf.calibrating" / "state.json"
    command = [TOOLS / "step3-convert", "calibrate", TRAINED, out, *map(str, arguments), "--progress", "none"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (state.exists() and json.loads(state.read_text())["layersDone"] > 1):
        time.sleep(0.001)
    assert process.poll() is None, "it was over before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    refused = tools.run("step3-convert", "calibrate", TRAINED, out, *arguments)
    assert refused.returncode == 73 and "--resume" in refused.stderr
    other = tokens_file(tmp_path / "other.safetensors", rows(63))
    refused = tools.run("step3-convert", "calibrate", TRAINED, out, "--tokens-file", other, "--resume")
    assert refused.returncode == 64 or refused.returncode == 65, refused.stderr
    assert "another text" in refused.stderr
    summary = tools.json("step3-convert", "calibrate", TRAINED, out, *arguments, "--resume")
    assert summary["layersResumed"] >= 2
    assert out.read_bytes() == whole.read_bytes()
    assert not state.parent.exists()


def test_a_run_without_results_does_not_block_another(tools, tmp_path):
    """Refused for lack of memory, or killed before the first layer: it can start again with any options."""
    tokens = tokens_file(tmp_path / "tokens.safetensors", rows(16))
    command = ["step3-convert", "calibrate", TRAINED, tmp_path / "matrix.gguf", "--tokens-file", tokens]
    refused = tools.run(*command, "--memory", "64MiB")
    assert refused.returncode == 64 and "give --memory" in refused.stderr
    assert tools.run(*command, "--min-expert-tokens", 5).returncode == 0
    assert not (tmp_path / "matrix.gguf.calibrating").exists()
    # The same with GPTQ and --resume.
    command = [
        *("step3-convert", TRAINED, tmp_path / "out", "--to", "safetensors", "--quantize", "W4A16", "--method", "gptq"),
        *("--calibration-tokens", tokens),
    ]
    assert tools.run(*command, "--memory", "64MiB").returncode == 64
    assert tools.run(*command, "--damping", 0.02).returncode == 0


def test_ctrl_c_keeps_finished_layers(tools, tmp_path):
    file = tokens_file(tmp_path / "tokens.safetensors", rows(64))
    out = tmp_path / "stats.gguf"
    command = [TOOLS / "step3-convert", "calibrate", TRAINED, out, "--tokens-file", file, "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not os.path.exists(f"{out}.calibrating/layer-0"):
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130 and "--resume" in said
    assert tools.json("step3-convert", "calibrate", TRAINED, out, "--tokens-file", file, "--resume")["layersResumed"] >= 1


def test_scarce_experts_are_filled_up_and_listed(tools, tmp_path):
    ids = rows(1, 24)
    file = tokens_file(tmp_path / "tokens.safetensors", ids)
    out = tmp_path / "stats.gguf"
    summary = tools.json("step3-convert", "calibrate", TRAINED, out, "--tokens-file", file, "--min-expert-tokens", 12)
    expected = squares(TRAINED, ids.tolist())
    reader, tensors = read(out)
    listed = {(entry["layer"], entry["expert"]): entry["tokens"] for entry in summary["filledExperts"]}
    assert listed and len(reader.get_field("step3_toolkit.filled_experts").contents()) == len(listed)
    for layer in (1, 2, 3):
        for part in ("gate", "up", "down"):
            sums, counts = expected[f"blk.{layer}.ffn_{part}_exps.weight"]
            typical = sums.sum(0) / counts.sum()
            if part == "down":
                typical = numpy.full_like(typical, typical.mean())
            for expert, count in enumerate(counts):
                assert listed.get((layer, expert)) == (int(count) if count < 12 else None)
                filled = sums[expert] + max(0, 12 - count) * typical
                mine = tensors[f"blk.{layer}.ffn_{part}_exps.weight.in_sum2"][expert]
                assert numpy.allclose(mine, filled, rtol=1e-4, atol=1e-4 * filled.max())
                assert tensors[f"blk.{layer}.ffn_{part}_exps.weight.counts"][expert] == max(12, count)


def test_running_text_is_cut_and_begins_with_bos(tools, tmp_path):
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(TRAINED / "tokenizer.json")).encode((TRAINED / "text" / "heldout.txt").read_text()[:6000]).ids
    text = tmp_path / "text.txt"
    text.write_text((TRAINED / "text" / "heldout.txt").read_text()[:6000])
    cut = [[0, *ids[at + 1 : at + 100]] for at in range(0, len(ids) - 99, 100)]
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps(cut))
    tools.json("step3-convert", "calibrate", TRAINED, tmp_path / "a.gguf", "--text", text, "--sequence-length", 100)
    tools.json("step3-convert", "calibrate", TRAINED, tmp_path / "b.gguf", "--tokens-file", file)
    (_, a), (_, b) = read(tmp_path / "a.gguf"), read(tmp_path / "b.gguf")
    assert all(numpy.array_equal(a[key], b[key]) for key in b)


def test_the_matrix_is_used(tools, tmp_path):
    """The toolkit reads the matrix, and weighted columns have smaller errors."""
    file = tokens_file(tmp_path / "tokens.safetensors", rows(32))
    stats = tmp_path / "stats.gguf"
    tools.json("step3-convert", "calibrate", TRAINED, stats, "--tokens-file", file)
    tools.convert(TRAINED, tmp_path / "plain", "--to", "gguf", "--quantize", "IQ3_S")
    tools.convert(TRAINED, tmp_path / "weighted", "--to", "gguf", "--quantize", "IQ3_S", "--imatrix", stats)
    held = tokens_file(tmp_path / "held.safetensors", load_file(TRAINED / "text" / "heldout_tokens.safetensors")["input_ids"][:16])
    plain, weighted = (
        tools.json("step3-verify", "logits", tmp_path / name, "--reference", TRAINED, "--tokens-file", held)["kl"]["mean"]
        for name in ("plain", "weighted")
    )
    assert weighted < 0.9 * plain
    plan = tools.json("step3-convert", "plan", TRAINED, "--to", "gguf", "--quantize", "IQ3_S", "--imatrix", stats)
    assert set(plan["importance"]["unweighted"]) == {"lm_head.weight", "model.embed_tokens.weight"}


def test_impossible_calibrations_are_refused(tools, tmp_path):
    file = tokens_file(tmp_path / "tokens.safetensors", rows(1))
    out = tmp_path / "stats.gguf"
    beyond = tmp_path / "beyond.json"
    beyond.write_text("[[5, 99999]]")
    assert tools.run("step3-convert", "calibrate", TRAINED, out, "--tokens-file", beyond).returncode != 0
    assert not out.exists()
    assert tools.run("step3-convert", "calibrate", TRAINED, out).returncode == 64
    out.write_bytes(b"mine")
    refused = tools.run("step3-convert", "calibrate", TRAINED, out, "--tokens-file", file)
    assert refused.returncode == 73 and out.read_bytes() == b"mine"


def test_the_oracle_is_the_published_model():
    """So that comparing with the oracle is comparing with the model."""
    for name in ("tiny", "odd", "trained"):
        checkpoint = FIXTURES / "checkpoints" / name
        reference = load_file(checkpoint / "reference" / "text_064.safetensors")
        with torch.no_grad():
            logits = Model(checkpoint, weights_of(checkpoint))(torch.as_tensor(reference["input_ids"])[None])[0]
        assert numpy.abs(logits.numpy() - reference["logits"]).max() < 2e-5
