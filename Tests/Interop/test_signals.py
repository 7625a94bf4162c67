"""Signals end a tool within a second, wherever it is, and nohup is respected."""

import json
import os
import pathlib
import resource
import shutil
import signal
import struct
import subprocess
import sys
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
    """As nohup and a shell's background jobs require."""
    output = tmp_path / "output"
    process = start("step3-convert", TINY, output, "--to", "gguf", "--quantize", "Q4_K", preexec_fn=ignore(number))
    while process.poll() is None:
        process.send_signal(number)
        time.sleep(0.002)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert tools.run("step3-verify", "checksums", output).returncode == 0


def test_workers_ignore_the_signals_that_their_parent_ignores(tools, tmp_path):
    output = tmp_path / "parts"
    tools.convert(TINY, output, "--to", "safetensors", "--partition", "afd", "--ffn-ep", "2")
    process = start(
        "step3-verify", "run", output, "--afd", "--tokens", "1,2,3", "--generate", "4",
        preexec_fn=ignore(signal.SIGHUP), process_group=0)
    while process.poll() is None:
        # To the whole process group, as when a terminal closes.
        try:
            subprocess.run(["kill", "-HUP", "--", f"-{process.pid}"], check=False, capture_output=True)
        finally:
            time.sleep(0.005)
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def sparse(path, tensors):
    """A sparse file of zero tensors."""
    header, size = {}, 0
    for name, shape in tensors:
        end = size + 2 * shape[0] * shape[1]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [size, end]}
        size = end
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + size)


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """Half a terabyte of weights in sparse files."""
    path = tmp_path_factory.mktemp("endless") / "model.safetensors"
    sparse(path, [("weight", [1 << 20, 1 << 18])])
    return path


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A checkpoint of a quarter of a million tensors: headers alone take a while."""
    directory = tmp_path_factory.mktemp("many")
    shards = [f"model-{number:05d}-of-00005.safetensors" for number in range(1, 6)]
    places = {}
    for shard in shards:
        names = [f"model.layers.{number}.{shard}.weight" for number in range(50_000)]
        sparse(directory / shard, [(name, [32, 32]) for name in names])
        places |= dict.fromkeys(names, shard)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (directory / "config.json").write_text(json.dumps({
        "architectures": ["Other"], "model_type": "other",
        "quantization_config": {"quant_method": "fp8", "ignore": [f"re:.*{number}(a|aa)*z" for number in range(20_000)]}}))
    return directory


@pytest.fixture(scope="module")
def stages(tools, endless, many, tmp_path_factory):
    """Work at every stage, each taking at least some seconds."""
    directory = tmp_path_factory.mktemp("stages")
    manifest = directory / "manifest"
    manifest.mkdir()
    tools.convert(TINY, directory / "small", "--to", "gguf", "--quantize", "Q8_0")
    text = (directory / "small" / "manifest.json").read_text()
    # A huge list in a document that is read completely before it is used.
    (manifest / "manifest.json").write_text(text.replace('"files"', '"more": [' + "0, " * 40_000_000 + '0], "files"', 1))
    prompt = directory / "prompt.txt"
    prompt.write_text("The lighthouse keeper counted 12345 waves. " * 20)
    return {
        "statistics": ["step3-inspect", "stats", endless],
        "conversion": [
            "step3-convert", endless, directory / "output", "--to", "safetensors", "--quantize", "F32", "--discard-output"],
        "planning": ["step3-convert", "plan", many, "--to", "safetensors", "--quantize", "F32"],
        "listing": ["step3-inspect", "list", many],
        "engine check": ["step3-verify", "engine", many],
        "manifest": ["step3-verify", "checksums", manifest],
        "run": ["step3-verify", "run", TINY, "--tokens", ",".join(["1"] * 60_000)],
        "tokenising": ["step3-verify", "run", TINY, "--prompt", "lighthouse " * 10_000],
    }


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize(
    "stage", ["statistics", "conversion", "planning", "listing", "engine check", "manifest", "run", "tokenising"])
def test_a_signal_ends_a_tool_in_the_middle_of_its_work(stages, stage, twice, number):
    """At any stage of longer work; the second signal takes effect at once."""
    process = start(*stages[stage])
    time.sleep(0.4 if stage != "conversion" else 1.5)
    assert process.poll() is None, process.communicate()
    for _ in range(1 + twice):
        process.send_signal(number)
        time.sleep(0.02)
    process.wait(timeout=30)
    # Before the actual work the signal's default action ends the tool, and during it the tool itself.
    assert process.returncode in (130, -number)
    process.communicate()


@pytest.mark.parametrize("limit", [30, 50, 70, 90, 105, 115, 118, 120, 125, 130, 140, 150, 160, 170, 180])
def test_a_small_address_space_is_an_error(tmp_path, limit):
    """Threads that cannot be created and lack of memory are errors, not hangs."""

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
        # 127: the dynamic linker had no room for the libraries, before anything of ours ran.
        assert process.returncode in (0, 74, 127), f"{command[:2]} at {limit} MiB: {process.returncode} {errors[-300:]}"
        if process.returncode == 74:
            assert "address space" in errors


@pytest.mark.parametrize("limit", [4, 6, 8, 12, 16, 20, 30])
@pytest.mark.parametrize("hard", [False, True])
def test_few_open_files_are_an_error(tmp_path, limit, hard):
    """The soft limit is raised as far as the system allows; if that is not enough, there is an error."""

    def bound():
        most = limit if hard else resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))

    for command in [
        ["step3-convert", TINY, tmp_path / "output", "--to", "gguf", "--quantize", "Q8_0", "--overwrite"],
        ["step3-verify", "run", TINY, "--tokens", "1,2,3"],
        ["step3-inspect", "stats", TINY, "--json"],
    ]:
        process = start(*command, "--threads", "2", preexec_fn=bound)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in ((0, 74) if hard else (0,)), f"{command[:2]} with {limit}: {process.returncode} {errors}"
        if process.returncode == 74:
            assert "ulimit -n" in errors
            assert "--json" not in command or json.loads(errors)["error"]["exitCode"] == 74


def processes_of(text):
    """The processes with a text in their command lines, except zombies."""
    found = set()
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
                if state != "Z" and text.encode() in (entry / "cmdline").read_bytes():
                    found.add(int(entry.name))
            except OSError:
                pass
    return found


def wait_until(condition, message):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(message)


@pytest.fixture(scope="module")
def parts(tools, tmp_path_factory):
    output = tmp_path_factory.mktemp("afd") / "parts"
    tools.convert(TINY, output, "--to", "safetensors", "--partition", "afd", "--ffn-ep", "2")
    return output


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends what is stopped")


@linux_only
def test_stopped_workers_do_not_outlive_their_parent(parts):
    """A worker stopped by SIGSTOP cannot act for itself."""
    process = start("step3-verify", "run", parts, "--afd", "--tokens", "1,2,3", "--generate", "20000")
    mark = f"{parts}/ffn-"
    try:
        wait_until(lambda: len(processes_of(mark)) == 2, "the workers do not come")
        workers = processes_of(mark)
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        process.kill()
        process.wait()
        wait_until(lambda: not processes_of(mark), "stopped workers are still there")
    finally:
        process.kill()
        process.communicate()
        for worker in processes_of(mark):
            os.kill(worker, signal.SIGKILL)


@linux_only
def test_a_worker_exits_if_its_parent_dies_while_it_starts(parts, tmp_path):
    """The parent dies between fork and prctl, when PR_SET_PDEATHSIG would come too late."""
    compiler = shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("takes a C compiler")
    source, library = tmp_path / "late.c", tmp_path / "late.so"
    source.write_text('''
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <unistd.h>
int prctl(int option, ...) {
    va_list list;
    va_start(list, option);
    unsigned long value = va_arg(list, unsigned long);
    va_end(list);
    if (option == PR_SET_PDEATHSIG) {
        pid_t parent = getppid();
        kill(parent, SIGKILL);
        while (getppid() == parent) usleep(1000);
    }
    int (*next)(int, ...) = dlsym(RTLD_NEXT, "prctl");
    return next(option, value, 0UL, 0UL, 0UL);
}
''')
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    process = start(
        "step3-verify", "run", parts, "--afd", "--tokens", "1,2,3", env=os.environ | {"LD_PRELOAD": str(library)})
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    wait_until(lambda: not processes_of(str(parts)), "a worker is still there")
