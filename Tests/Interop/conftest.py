"""Shared by all interop tests: the built tools, the fixtures, and seeded random numbers."""

import numpy
import pytest

from built_tools import (  # noqa: F401
    FIXTURES, ROOT, TOOLS, Tools, closing_table, pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown,
    require_tools)
from opened_models import OpenedTools


@pytest.fixture(scope="session")
def tools(tmp_path_factory):
    """The tools. At the end llama.cpp opens every model that was written for an architecture that it knows."""
    require_tools()
    tools = OpenedTools(tmp_path_factory.mktemp("written"))
    yield tools
    tools.open_all()


@pytest.fixture
def random():
    return numpy.random.default_rng(20250726)
