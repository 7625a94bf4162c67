"""Signals end a tool within a second, wherever it is, and nohup is respected."""

import json
import resource
import signal
import struct
import subprocess
import time

import pytest

from conftest import FIXTURES, TOOLS

TINY = FIXTURES / "checkpoints" / "tiny"


def start(*command, **options):
    return subprocess.Popen(
        [str(TOOLS / command[0]), *map(str, command[1:])], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **options)


def ignore(number):
    return lambda: signal.signal(number, signal.SIG_IGN)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_an_ignored_signal_stays_ignored(tools, tmp_path, number):
    """As nohup and background jobs of a shell want it."""
    output = tmp_path / "output"
    process = start("step3-convert", TINY, output, "--to", "gguf", "--quantize", "Q4_K", preexec_fn=ignore(number))
    while process.poll() is None:
        process.send_signal(number)
        time.sleep(0.002)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert tools.run("step3-verify", "checksums", output).returncode == 0


def test_workers_ignore_what_their_parent_does(tools, tmp_path):
    output = tmp_path / "parts"
    tools.convert(TINY, output, "--to", "safetensors", "--partition", "afd", "--ffn-ep", "2")
    process = start(
        "step3-verify", "run", output, "--afd", "--tokens", "1,2,3", "--generate", "4",
        preexec_fn=ignore(signal.SIGHUP), process_group=0)
    while process.poll() is None:
        # To the whole group, as a terminal does that is closed.
        try:
            subprocess.run(["kill", "-HUP", "--", f"-{process.pid}"], check=False, capture_output=True)
        finally:
            time.sleep(0.005)
    _, errors = process.communicate()
    assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """Half a terabyte of weights that take no room."""
    path = tmp_path_factory.mktemp("endless") / "model.safetensors"
    rows, columns = 1 << 20, 1 << 18
    size = 2 * rows * columns
    header = json.dumps({"weight": {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [0, size]}}).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    return path


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["stats", "convert"])
def test_a_signal_ends_a_tool_in_the_middle_of_its_work(endless, tmp_path, command, number):
    """Of work that would take minutes at the least."""
    arguments = {
        "stats": ["step3-inspect", "stats", endless],
        "convert": ["step3-convert", endless, tmp_path / "output", "--to", "safetensors", "--quantize", "F32", "--discard-output"],
    }
    process = start(*arguments[command])
    time.sleep(1.5)
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    process.wait(timeout=30)
    # Before the work proper the system ends it, in it the tool itself.
    assert process.returncode in (130, -number)
    process.communicate()


@pytest.mark.parametrize("limit", [140, 150, 160, 170, 180])
def test_a_small_address_space_is_an_error(tmp_path, limit):
    """Threads that cannot be made and memory that is not there are said, not waited for."""

    def bound():
        resource.setrlimit(resource.RLIMIT_AS, (limit << 20, limit << 20))

    for command in [
        ["step3-convert", "plan", TINY, "--to", "gguf"],
        ["step3-convert", TINY, tmp_path / "output", "--to", "gguf", "--quantize", "Q4_K"],
        ["step3-verify", "run", TINY, "--tokens", "1,2,3"],
        ["step3-inspect", "stats", TINY],
    ]:
        process = start(*command, "--threads", "4", preexec_fn=bound)
        try:
            _, errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"{command[:2]} waits for ever at {limit} MiB")
        # 127: the dynamic linker had no room for the libraries.
        assert process.returncode in (0, 74, 127), f"{command[:2]} at {limit} MiB: {process.returncode} {errors[-300:]}"
        if process.returncode == 74:
            assert "address space" in errors
