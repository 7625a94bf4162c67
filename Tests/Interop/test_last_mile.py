"""From a conversion to a served model: the suggested next commands work, and one command runs every check."""

import json
import shlex
import subprocess

import pytest

from conftest import FIXTURES, ROOT, TOOLS

TINY = FIXTURES / "checkpoints" / "tiny"
TOKENS = TINY / "reference" / "text_064.safetensors"


def next_commands(text):
    block = text.split("  next:\n")[1]
    return [line.strip() for line in block.split("\n") if line.startswith("    ") and not line.strip().startswith("#")]


@pytest.mark.parametrize("options", [["--to", "gguf", "--quantize", "Q8_0"], ["--to", "safetensors", "--quantize", "W4A16"],
                                     ["--to", "safetensors", "--partition", "afd", "--ffn-ep", "2"]])
def test_next_commands_run(tools, tmp_path, options):
    """With a name that a shell would split into several words."""
    output = tmp_path / "an output's name"
    result = tools.run("step3-convert", TINY, output, *options)
    assert result.returncode == 0, result.stderr
    commands = next_commands(result.stdout)
    assert [shlex.split(command)[1] for command in commands[:3]] == ["checksums", "tensors", "logits"]
    served = [shlex.split(command) for command in commands[3:]]
    if "W4A16" in options:
        assert [command[0] for command in served] == ["vllm", "python"] and str(output) in served[0]
        assert "--tensor-parallel-size" in served[0] and "sglang.launch_server" in served[1]
    else:
        assert served == []
    for command in commands[:3]:
        command = command.replace('"..."', '"The lighthouse keeper"')
        run = subprocess.run(
            ["sh", "-c", command], env={"PATH": f"{TOOLS}:/usr/bin:/bin"}, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, (command, run.stderr)


def checks(document):
    return {check["name"]: check for check in document["checks"]}


def test_all_gives_one_verdict(tools, tmp_path):
    output = tmp_path / "w4"
    tools.convert(TINY, output, "--to", "safetensors", "--quantize", "W4A16")
    document = tools.json(
        "step3-verify", "all", output, "--source", TINY, "--tokens-file", TOKENS, "--max-mean-kl", "0.1", "--tp", "2"
    )
    found = checks(document)
    assert list(found) == ["engine", "checksums", "tensors", "logits"]
    assert document["ok"] and all(check["ok"] and check["note"] is None for check in found.values())
    assert found["checksums"]["report"]["files"] > 0 and found["logits"]["report"]["tokens"] == 64

    # A broken limit fails on its own, and every check is run.
    result = tools.run(
        "step3-verify", "all", output, "--source", TINY, "--tokens-file", TOKENS, "--max-mean-kl", "0.001", "--json"
    )
    assert result.returncode == 1
    found = checks(json.loads(result.stdout))
    assert [name for name, check in found.items() if not check["ok"]] == ["logits"]

    # Without a limit nothing is judged, and the output says so.
    text = tools.run("step3-verify", "all", output, "--source", TINY, "--tokens-file", TOKENS)
    assert text.returncode == 0 and "logits      measured" in text.stdout
    assert text.stdout.endswith(": all 3 checks that ran passed; logits measured without a limit\n")
    assert "not run: no text" in tools.run("step3-verify", "all", output, "--source", TINY).stdout


def test_all_continues_after_a_fault(tools, tmp_path):
    output = tmp_path / "q8"
    tools.convert(TINY, output, "--to", "gguf", "--quantize", "Q8_0")
    (output / "extra.json").write_text("{}")
    result = tools.run("step3-verify", "all", output, "--source", TINY, "--json")
    assert result.returncode == 1
    found = checks(json.loads(result.stdout))
    assert found["engine"]["ok"] is None and "safetensors" in found["engine"]["skipped"]
    assert found["checksums"]["ok"] is False and found["tensors"]["ok"] is True
    # A missing source has its own exit code, and checks that need none have run.
    result = tools.run("step3-verify", "all", output, "--source", tmp_path / "nowhere", "--json")
    found = checks(json.loads(result.stdout))
    assert result.returncode == 1 and "no such file" in found["tensors"]["error"]
    (output / "extra.json").unlink()
    assert tools.run("step3-verify", "all", output, "--source", tmp_path / "nowhere").returncode == 66
    assert tools.run("step3-verify", "all", output, "--source", TINY, "--pin", "12").returncode == 64


def test_all_on_an_unsupported_model_skips_checks(tools, tmp_path):
    """Checks that need a known model are skipped, and the output says so."""
    source = tmp_path / "other"
    source.mkdir()
    header = b'{"blocks.0.ff.weight":{"dtype":"F32","shape":[2,32],"data_offsets":[0,256]}}'
    (source / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(range(64)) * 4)
    (source / "config.json").write_text('{"model_type": "unknown_model"}')
    assert tools.run("step3-convert", source, tmp_path / "copy", "--to", "safetensors").returncode == 0
    document = tools.json("step3-verify", "all", tmp_path / "copy", "--source", source, "--prompt", "x")
    found = checks(document)
    assert document["ok"] and [name for name, check in found.items() if check["ok"]] == ["checksums", "tensors"]
    assert "can be run" in found["logits"]["skipped"] and "Step family" in found["engine"]["skipped"]


MISTAKES = [
    ("wrong path", ["step3-inspect", "nowhere"], 66, "there is no such file or directory"),
    ("wrong path", ["step3-convert", "nowhere", "OUT", "--to", "gguf"], 66, "nowhere: there is no such file or directory"),
    ("half a download", ["step3-convert", "HALF", "OUT", "--to", "gguf"], 66, "2 of 4"),
    ("LFS pointer", ["step3-inspect", "POINTER"], 65, "Git LFS"),
    ("recipe typo", ["step3-convert", "TINY", "OUT", "--to", "gguf", "--quantize", "Q4KM"], 64, "did you mean Q4_K_M?"),
    ("recipe of another name", ["step3-convert", "TINY", "OUT", "--to", "safetensors", "--quantize", "W4A16_G128"], 64, "W4A16 is the one"),
    ("no --to", ["step3-convert", "TINY", "OUT"], 64, "--to <to>': one of safetensors, gguf, archive"),
    ("--to in capitals", ["step3-convert", "TINY", "OUT", "--to", "GGUF"], 64, "'safetensors', 'gguf' or 'archive'"),
    ("output exists", ["step3-convert", "TINY", "FULL", "--to", "gguf"], 73, "--overwrite"),
    ("unsupported model", ["step3-convert", "OTHER", "OUT", "--to", "safetensors", "--quantize", "W4A16"], 64, "unknown_model"),
    ("TP that does not divide", ["step3-convert", "TINY", "OUT", "--to", "safetensors", "--partition", "afd",
                                 "--attention-tp", "7"], 64, "7"),
    ("wrong engine", ["step3-verify", "engine", "TINY", "--engine", "vlm"], 64, "'vllm', 'sglang' or 'both'"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake[0]}, {mistake[1][0]}")
def test_likely_mistakes_are_explained(tools, tmp_path, mistake):
    """The message and the exit code of common mistakes; nothing is left behind."""
    _, command, status, wanted = mistake
    half, full, pointer, other = (tmp_path / name for name in ("half", "full", "pointer", "other"))
    for directory in (half, full, pointer, other):
        directory.mkdir()
    for file in TINY.iterdir():
        if file.is_file() and not file.name.startswith(("model-00003", "model-00004")):
            (half / file.name).symlink_to(file)
    (full / "something").write_text("")
    (pointer / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
    )
    (other / "config.json").write_text('{"model_type": "unknown_model", "architectures": ["UnknownModel"]}')
    header = b'{"blocks.0.ff.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}'
    (other / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    places = {"TINY": TINY, "HALF": half, "FULL": full, "POINTER": pointer, "OTHER": other, "OUT": tmp_path / "out"}
    result = tools.run(*(places.get(word, word) for word in command))
    assert result.returncode == status, result.stderr
    assert wanted in result.stderr, result.stderr
    assert not (tmp_path / "out").exists()
