"""What every interop test has: the built tools, the fixtures, and seeded random numbers."""

import importlib.util
import json
import os
import pathlib
import signal
import subprocess

import numpy
import pytest

import llama_cpp_runtime

# Who runs the tests in the background has them ignore signals, and what is ignored stays so in the tools.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "Fixtures"
TOOLS = ROOT / ".build" / "release"


class Tools:
    """The three tools as `swift build -c release` left them."""

    def __init__(self, kept=None):
        # Where GGUF files stay linked until llama.cpp has opened them.
        self.kept, self.written = kept, []

    def run(self, name, *arguments):
        """Runs a tool, whatever its exit code."""
        command = [str(TOOLS / name), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def json(self, name, *arguments):
        """Runs a tool that has to succeed, and returns the document that it prints with --json."""
        result = self.run(name, *arguments, "--json")
        assert result.returncode == 0, f"{name} {arguments} ended with {result.returncode}: {result.stderr}"
        return json.loads(result.stdout)

    def list(self, path):
        """The tensors of a checkpoint by name, as `step3-inspect list` sees them."""
        return {tensor["name"]: tensor for tensor in self.json("step3-inspect", "list", path)["tensors"]}

    def stats(self, path):
        """The tensors of a checkpoint by name, as `step3-inspect stats` sees them."""
        return {tensor["name"]: tensor for tensor in self.json("step3-inspect", "stats", path)["tensors"]}

    def convert(self, source, output, *arguments):
        """Converts, and holds the result to its own manifest at once."""
        if "odd" in str(source):
            # Its rows fit few formats, which is what it is for.
            arguments = (*arguments, "--allow-fallback")
        summary = self.json("step3-convert", source, output, *arguments)
        # Layers that predict further tokens are no model by themselves; test_family.py has them loaded beside one.
        if "--mtp" not in arguments:
            self.keep(pathlib.Path(output))
        checks = self.json("step3-verify", "checksums", output)
        assert checks["ok"] and checks["findings"] == []
        return summary


    def keep(self, output):
        """Notes the GGUF files of an output for llama.cpp, if it knows their architecture."""
        if self.kept is None or not (output / "model.gguf").exists() and not any(output.glob("*-00001-of-*.gguf")):
            return
        directory = self.kept / str(len(self.written))
        directory.mkdir()
        for file in output.glob("*.gguf"):
            os.link(file, directory / file.name)
        mmproj = directory / "mmproj.gguf"
        first = next((f for f in sorted(directory.glob("*.gguf")) if f != mmproj), None)
        if first is None or architecture(first) not in llama_cpp_runtime.ARCHITECTURES:
            return
        self.written.append(f"{first}+{mmproj}" if mmproj.exists() else str(first))


def architecture(path):
    """`general.architecture`, the first key of every file that llama.cpp or we write."""
    with open(path, "rb") as file:
        head = file.read(256)
    key = b"general.architecture"
    if key not in head:
        return None
    start = head.index(key) + len(key) + 4
    length = int.from_bytes(head[start : start + 8], "little")
    return head[start + 8 : start + 8 + length].decode()


@pytest.fixture(scope="session")
def tools(tmp_path_factory):
    """The tools. At the end llama.cpp opens every model that was written for an architecture which it knows."""
    for name in ("step3-inspect", "step3-convert", "step3-verify"):
        if not (TOOLS / name).exists():
            pytest.exit(f"{TOOLS / name} is not there: run `swift build -c release` first", returncode=2)
    has_client = importlib.util.find_spec("xllamacpp") is not None
    tools = Tools(tmp_path_factory.mktemp("written") if has_client else None)
    yield tools
    refused = llama_cpp_runtime.refused(tools.written)
    assert not refused, f"llama.cpp does not load {refused}"


@pytest.fixture
def random():
    return numpy.random.default_rng(20250726)


TABLES = pytest.StashKey()


@pytest.fixture(scope="session")
def closing_table(request):
    """Adds a row, {column: text}, to the table of that title, which is printed after all tests."""
    tables = request.config.stash.setdefault(TABLES, {})
    return lambda title, row: tables.setdefault(title, []).append(row)


def pytest_terminal_summary(terminalreporter, config):
    for title, rows in config.stash.get(TABLES, {}).items():
        terminalreporter.section(title)
        for cells in [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]:
            terminalreporter.write_line(f"| {' | '.join(cells)} |")
