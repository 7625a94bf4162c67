"""The tools in a terminal of 80 and of 200 columns, and completion in the shells."""

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios

import pytest

from conftest import FIXTURES, ROOT, TOOLS, require_tools

TINY = "Fixtures/checkpoints/tiny"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def in_terminal(columns, *command, environment=None):
    """Runs a command with a terminal for all three streams: (exit code, what it printed)."""
    require_tools()
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    known = {"PATH": f"{TOOLS}:{os.environ['PATH']}", "TERM": "xterm-256color", "HOME": "/nonexistent"}
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, cwd=ROOT, env={**known, **(environment or {})}
    )
    os.close(terminal)
    output = b""
    while True:
        try:
            block = os.read(main, 65536)
        except OSError:
            break
        if not block:
            break
        output += block
    os.close(main)
    return process.wait(timeout=60), output.decode().replace("\r\n", "\n")


def lines(text):
    """The visible lines: without colour, and only the final state of a redrawn line."""
    return [COLOUR.sub("", line.split("\r")[-1]).replace("\x1b[K", "") for line in text.split("\n")]


TABLES = [
    ["step3-inspect", "list", TINY],
    ["step3-inspect", "list", TINY, "--summary"],
    ["step3-inspect", "stats", TINY],
    ["step3-inspect", "diff", TINY, "Fixtures/checkpoints/tiny-fp8"],
    ["step3-inspect", "diff", TINY, "Fixtures/checkpoints/tiny-fp8", "--headers-only"],
    ["step3-inspect", "list", TINY, "--fold"],
    ["step3-inspect", "stats", TINY, "--percentiles", "--histogram"],
    ["step3-convert", "plan", TINY, "--to", "gguf", "--quantize", "Q4_K_M"],
    ["step3-convert", "recipes"],
    ["step3-verify", "tensors", "Fixtures/checkpoints/tiny-fp8", "--source", TINY],
    ["step3-verify", "engine", "Fixtures/checkpoints/tiny-fp8"],
]


@pytest.mark.parametrize("command", TABLES, ids=lambda command: " ".join(command[:3]))
def test_tables_fit(command):
    """No line is wider than the terminal, except names on lines of their own."""
    status, narrow = in_terminal(80, *command)
    assert status in (0, 1), narrow
    # Only names may exceed the width.
    wide = [line for line in lines(narrow) if len(line) > 80 and " " in line.strip()]
    assert not wide
    status, broad = in_terminal(200, *command)
    assert all(len(line) <= 200 for line in lines(broad))
    # Same content: no word of the wide table is missing in the narrow one, except in columns that only the wide one has.
    assert len(lines(broad)) <= len(lines(narrow))


TRAINED = "Fixtures/checkpoints/trained"
HELD_OUT = f"{TRAINED}/text/heldout_tokens.safetensors"
WORDS = {
    "convert": ["step3-convert", TRAINED, "{tmp}/out", "--to", "gguf", "--quantize", "Q4_K_M"],
    "convert for engines": ["step3-convert", TINY, "{tmp}/out", "--to", "safetensors", "--quantize", "W4A16"],
    "plan for engines": ["step3-convert", "plan", TINY, "--to", "safetensors", "--quantize", "W4A16"],
    "plan for cards": [
        *("step3-convert", "plan", TINY, "--to", "safetensors", "--quantize", "W4A16"),
        *("--gpu-memory", "24GB", "--context", "1K", "--batch", "4"),
    ],
    "calibrate": ["step3-convert", "calibrate", TRAINED, "{tmp}/stats.gguf", "--tokens-file", HELD_OUT],
    "logits": ["step3-verify", "logits", TRAINED, "--reference", TRAINED, "--tokens-file", HELD_OUT],
    "all": ["step3-verify", "all", "Fixtures/checkpoints/tiny-fp8", "--source", TINY, "--engine", "vllm"],
    "run": ["step3-verify", "run", TINY, "--prompt", "The lighthouse keeper"],
}


@pytest.mark.parametrize("command", WORDS.values(), ids=WORDS.keys())
def test_sentences_are_wrapped_and_commands_are_not(command, tmp_path):
    """Sentences are wrapped between words; commands, which are meant to be copied, are not wrapped."""
    status, text = in_terminal(80, *(part.replace("{tmp}", str(tmp_path)) for part in command))
    assert status in (0, 1), text
    for line in lines(text):
        whole = len(line.split()) <= 1 or re.match(r" *(step3-|vllm |python |sglang )", line)
        assert whole or len(line) <= 80, line


def test_messages_break_between_words():
    status, text = in_terminal(80, "step3-convert", TINY, "/tmp/never", "--to", "gguf", "--quantize", "NVFP4A16")
    assert status == 65
    assert max(map(len, lines(text))) <= 80 or all(" " not in line.strip() for line in lines(text) if len(line) > 80)
    flat = " ".join(" ".join(lines(text)).split())
    assert "GGUF has no NVFP4A16, whose scales are separate tensors; choose NVFP4" in flat
    # Nothing is wrapped without a terminal.
    plain = subprocess.run(
        [TOOLS / "step3-convert", TINY, "/tmp/never", "--to", "gguf", "--quantize", "NVFP4A16"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )
    assert plain.stderr.count("\n") == 1


def test_verdicts_have_a_colour(tmp_path):
    damaged = tmp_path / "damaged"
    subprocess.run(
        [TOOLS / "step3-convert", TINY, damaged, "--to", "gguf", "--quantize", "Q8_0"],
        check=True, capture_output=True, cwd=ROOT,
    )
    with open(damaged / "model.gguf", "r+b") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    status, text = in_terminal(80, "step3-verify", "checksums", str(damaged))
    assert status == 1 and "\x1b[31m" in text
    status, text = in_terminal(80, "step3-verify", "checksums", str(damaged), environment={"NO_COLOR": "1"})
    assert status == 1 and "\x1b[" not in text.replace("\x1b[K", "")
    status, text = in_terminal(80, "step3-verify", "engine", "Fixtures/checkpoints/tiny-fp8")
    assert status == 1 and re.search(r"\x1b\[31m[^\x1b]*would NOT load", text)


def completed_by_bash(tool, words):
    """What bash would offer for the last word."""
    script = subprocess.run(
        [TOOLS / tool, "--generate-completion-script", "bash"], capture_output=True, text=True, check=True
    ).stdout
    array = " ".join(f"'{word}'" for word in [tool, *words])
    function = "_" + tool.replace("-", "_")
    program = (
        f"{script}\nCOMP_WORDS=({array})\nCOMP_CWORD={len(words)}\n"
        f"{function} {tool} '{words[-1]}' ''\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    )
    result = subprocess.run(
        ["bash", "--norc", "-c", program], capture_output=True, text=True, cwd=ROOT, check=True,
        env={"PATH": f"{TOOLS}:{os.environ['PATH']}"},
    )
    return [line for line in result.stdout.split("\n") if line]


def test_bash_completes():
    require_tools()
    assert completed_by_bash("step3-convert", ["pl"]) == ["plan"]
    assert completed_by_bash("step3-convert", [TINY, "out", "--quantize", "Q4_K_"]) == ["Q4_K_M", "Q4_K_S"]
    assert completed_by_bash("step3-convert", ["--to", "=", "sa"]) == ["safetensors"]
    assert completed_by_bash("step3-inspect", ["stats", TINY, "--filter", "moe.d"]) == ["moe.down_proj"]
    assert "Fixtures/checkpoints/tiny" in completed_by_bash("step3-inspect", ["list", "Fixtures/checkpoints/ti"])


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_completes(tmp_path):
    require_tools()
    script = subprocess.run(
        [TOOLS / "step3-convert", "--generate-completion-script", "zsh"], capture_output=True, text=True, check=True
    ).stdout
    (tmp_path / "_step3-convert").write_text(script)
    keys = f"""
import os, pty, sys, time, select
child, main = pty.fork()
if child == 0:
    os.environ.update(TERM="dumb", PS1="> ", ZDOTDIR={str(tmp_path)!r})
    os.execvp("zsh", ["zsh", "-f", "-i"])
def until(text, seconds=20):
    seen, end = "", time.time() + seconds
    while text not in seen and time.time() < end:
        if select.select([main], [], [], 0.2)[0]:
            seen += os.read(main, 65536).decode(errors="replace")
    return seen
until("> ")
os.write(main, b"fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -u -d {tmp_path}/dump; echo rea''dy\\n")
until("ready")
os.write(main, b"step3-convert a b --quantize W4A16_G3\\t")
sys.stdout.write(until("2 ", 20))
os.write(main, b"\\x03")
"""
    result = subprocess.run(
        [sys.executable, "-c", keys], capture_output=True, text=True, cwd=ROOT, check=True,
        env={"PATH": f"{TOOLS}:{os.environ['PATH']}"}, timeout=90,
    )
    # Only the completed part is drawn, not what was typed.
    assert re.search("W4A16_G3\\W*2 ", result.stdout)


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
def test_fish_completes(tmp_path):
    require_tools()
    script = subprocess.run(
        [TOOLS / "step3-convert", "--generate-completion-script", "fish"], capture_output=True, text=True, check=True
    ).stdout
    (tmp_path / "completion.fish").write_text(script)
    result = subprocess.run(
        ["fish", "-c", f"source {tmp_path}/completion.fish; complete -C 'step3-convert a b --quantize W4A16_G3'"],
        capture_output=True, text=True, cwd=ROOT, check=True,
        env={"PATH": f"{TOOLS}:{os.environ['PATH']}", "HOME": str(tmp_path)},
    )
    assert "W4A16_G32" in result.stdout


@pytest.mark.parametrize("tool", ["step3-convert", "step3-inspect", "step3-verify"])
def test_man_pages_are_up_to_date(tool):
    """The man pages are up to date (`make manual`), and troff accepts every line."""
    require_tools()
    page = ROOT / "Manuals" / "man" / f"{tool}.1"
    date = re.search(r'^\.TH \S+ 1 "([\d-]+)"', page.read_text(), re.MULTILINE)[1]
    written = subprocess.run(
        [sys.executable, ROOT / "Manuals/man/write.py", TOOLS / tool, date], capture_output=True, text=True, check=True
    ).stdout
    assert written == page.read_text(), "run make manual"
    for section in ("SYNOPSIS", "EXIT STATUS", "ENVIRONMENT", "SEE ALSO"):
        assert f".SH {section}\n" in written
    if shutil.which("groff"):
        result = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", page], capture_output=True, text=True, check=True)
        assert result.stderr == ""
