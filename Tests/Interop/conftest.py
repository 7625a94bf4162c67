"""What every interop test has: the built tools, the fixtures, and seeded random numbers."""

import numpy
import pytest

from built_tools import (  # noqa: F401
    FIXTURES, ROOT, TOOLS, Tools, closing_table, pytest_terminal_summary, tools)


@pytest.fixture
def random():
    return numpy.random.default_rng(20250726)
