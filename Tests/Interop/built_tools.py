"""Shared by all tests of the built tools: the tools, the fixtures, and tables that are printed at the end."""

import json
import pathlib
import signal
import subprocess

import pytest

# Tests run in the background ignore signals, and the tools would inherit that.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "Fixtures"
TOOLS = ROOT / ".build" / "release"


class Tools:
    """The three tools as built by `swift build -c release`."""

    def run(self, name, *arguments, cwd=None):
        """Runs a tool, whatever its exit code."""
        command = [str(TOOLS / name), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)

    def json(self, name, *arguments):
        """Runs a tool that must succeed, and returns the document that it prints with --json."""
        result = self.run(name, *arguments, "--json")
        assert result.returncode == 0, f"{name} {arguments} ended with {result.returncode}: {result.stderr}"
        return json.loads(result.stdout)

    def list(self, path):
        """The tensors of a checkpoint by name, from `step3-inspect list`."""
        return {tensor["name"]: tensor for tensor in self.json("step3-inspect", "list", path)["tensors"]}

    def stats(self, path):
        """The tensors of a checkpoint by name, from `step3-inspect stats`."""
        return {tensor["name"]: tensor for tensor in self.json("step3-inspect", "stats", path)["tensors"]}

    def convert(self, source, output, *arguments):
        """Converts, and checks the result against its manifest."""
        if "odd" in str(source):
            # Its rows fit few formats, on purpose.
            arguments = (*arguments, "--allow-fallback")
        summary = self.json("step3-convert", source, output, *arguments)
        checks = self.json("step3-verify", "checksums", output)
        assert checks["ok"] and checks["findings"] == []
        return summary


def require_tools():
    """Ends the session if the tools are not built."""
    for name in ("step3-inspect", "step3-convert", "step3-verify"):
        if not (TOOLS / name).exists():
            pytest.exit(f"{TOOLS / name} is not there: run `swift build -c release` first", returncode=2)


@pytest.fixture(scope="session")
def tools():
    require_tools()
    return Tools()


TABLES = pytest.StashKey()


@pytest.fixture(scope="session")
def closing_table(request):
    """Adds a row, {column: text}, to the table with that title, which is printed after all tests."""
    tables = request.config.stash.setdefault(TABLES, {})
    return lambda title, row: tables.setdefault(title, []).append(row)


def pytest_sessionfinish(session):
    """Where tests run in several processes, each of them hands its rows to the one that prints."""
    handed = getattr(session.config, "workeroutput", None)
    if handed is not None:
        handed["tables"] = session.config.stash.get(TABLES, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    tables = node.config.stash.setdefault(TABLES, {})
    for title, rows in (getattr(node, "workeroutput", None) or {}).get("tables", {}).items():
        tables.setdefault(title, []).extend(rows)


def pytest_terminal_summary(terminalreporter, config):
    for title, rows in config.stash.get(TABLES, {}).items():
        terminalreporter.section(title)
        for cells in [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]:
            terminalreporter.write_line(f"| {' | '.join(cells)} |")
