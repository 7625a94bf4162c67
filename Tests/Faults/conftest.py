"""Fixtures of the fault tests: the built tools, and a shim that makes one system call fail."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Interop"))

from built_tools import (  # noqa: E402, F401
    FIXTURES, ROOT, TOOLS, Tools, closing_table, pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown,
    tools)
from injection import Injector  # noqa: E402


@pytest.fixture(scope="session")
def injector(tools, tmp_path_factory):
    if not Injector.is_possible():
        pytest.skip("faults are injected with LD_PRELOAD, which takes a C compiler on Linux")
    return Injector(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def held(closing_table):
    """Adds a line to the table of what was tried."""

    def add(kind, tried, count, remark=""):
        closing_table("Faults", {"kind of fault": kind, "tried": str(tried), "held": str(count), "remark": remark})

    return add
