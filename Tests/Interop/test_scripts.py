"""Checks of the shell scripts."""

import re
import shutil
import subprocess

import pytest

from conftest import ROOT


def scripts():
    tracked = subprocess.run(["git", "ls-files", "-z"], capture_output=True, cwd=ROOT, check=True).stdout.decode().split("\0")
    for name in filter(None, tracked):
        path = ROOT / name
        if path.is_file() and not path.is_symlink() and re.match(rb"#!.*\b(ba)?sh\n", path.read_bytes()[:64]):
            yield path


SCRIPTS = list(scripts()) if (ROOT / ".git").exists() else []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pipe_ends_before_its_writer(script):
    """With pipefail a writer ended by SIGPIPE makes the pipeline fail intermittently."""
    text = script.read_text()
    if "pipefail" not in text:
        return
    early = re.compile(r"\|\s*(head\b|grep\s+(-\w*q|-\w*m)|sed\s+\S*q|awk\s+'[^']*\bexit\b)")
    found = [line for line in text.splitlines() if early.search(line) and not line.lstrip().startswith("#")]
    assert not found


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck(script):
    result = subprocess.run(["shellcheck", "--severity=warning", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
