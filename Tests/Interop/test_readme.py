"""The README's output is that of the tools."""

import re
import shlex
import subprocess

from conftest import FIXTURES, ROOT, TOOLS, require_tools

README = (ROOT / "README.md").read_text()


def test_the_first_commands_output_is_as_shown(tmp_path):
    """Its output is shown in full, so every line must match, except what depends on the machine."""
    require_tools()
    block = re.search(r"^    \$ (step3-convert Fixtures/.*)\n((?:    .*\n)+)", README, re.MULTILINE)
    tool, *arguments = shlex.split(block[1])
    (tmp_path / "Fixtures").symlink_to(FIXTURES)
    result = subprocess.run([TOOLS / tool, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    shown = [line.removeprefix("    ") for line in block[2].splitlines()]
    said = result.stdout.splitlines()
    assert len(shown) == len(said)
    for expected, line in zip(shown, said):
        if re.fullmatch(r"  [\d.]+ s, .*/s, peak memory .*iB", line):
            assert re.fullmatch(r"  [\d.]+ s, .*/s, peak memory .*iB", expected)
        else:
            assert line == expected


def test_links_lead_somewhere():
    """Links in the README and the manuals, within the project."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "Manuals").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
