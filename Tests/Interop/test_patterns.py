"""Patterns of lists of modules, against Python's own `re` and `fnmatch`, which engines match them with."""

import fnmatch
import json
import os
import random
import re
import subprocess
import sys
import warnings

import pytest

from conftest import TOOLS

NAMES = [
    "", "a", "ab", "aab", "abab", "ba.b", "b-1", "A_9", "model.layers.12.moe.experts.3.up_proj", "lm_head",
    "model.layers.4.self_attn.q_proj", "language_model.model.layers.44.share_expert.down_proj.weight", "a\n", "\na\n\nb",
    "x y\tz", "]^-[", "a{1,2}", "a\\b", "ß", "ü.é", "\u0663\u00b2\u2167", "\u017f\u212a\u0130\u0131", "\U0001f600a", "中文",
    "\x1c\u00a0\u2003", "aaaaaaaaaaaa", "$^.*+?", "iIsSkK", "\x00\x01\x08", "e\u0301",
]

EXPRESSIONS = [
    r".*self_attn\..*", r"^model\.layers\.(\d+)\.", r".*layers\.(0|1|2|44)\.(?:moe|share_expert)\..*", r".*_proj$",
    r"(?!.*experts).*", r"(?=.*\bmoe\b).*", r"(?i)MODEL", r"(?is:.*B)", r"(?m)^b$", r"(?m).*\n^b", r"(?ms).*^b\Z", r"a$",
    r"a\Z", r"\Aa", r"[\w.]+$", r"[^\W\d]+$", r"[\D]", r"[\S\n]", r"[^\S]", r"\s+$", r"\d", r"\d+[²]", r"\w+$", r"\W", r"\b",
    r"\B", r"a\b", r".*\B.b", r"[]-a]+", r"[^]]", r"[a\]-]", r"[\b]", r"[--0]", r"[a&&b]", r"[[a]", r"[a||b]", r"a{1,2}",
    r"a{,2}b", r"a{2,}", r"a{1, 2}", r"a{,}", r"a{}", r"a{x}", r"{", r"a{1", r"}", r"a*?b", r"a+?b", r"a??b", r"a{1,2}?b",
    r"a*+a", r"a++b", r"a?+a", r"a{1,2}+a", r"(?>a*)a", r"(?>a|ab)a", r"(a)\1", r"(a|b)(?P<two>b)?\1", r"(?P<x>a)(?P=x)",
    r"(?:(a)|b)*\1", r"\07", r"\007", r"\101", r"\0", r"[\101]", r"[\08]", r"\x41", r"\u0041", r"\U0001F600", r"\.", r"\-",
    r"\ü", r"(?#comment)a", r"a(?#comment)*b", r"(?<=a)b", r"a(?<=a)b", r"a(?<!b)b", r".*(?<=ab|ba)$", r".*(?<!\.)$",
    r".*(?<=[a-c]{2})b", r"(?<=^)a", r".*(?<=\bup)_", r"(?:)", r"()", r"", r"|a", r"a|", r"(|a)+$", r"(?:a?)*$", r"(a*)*$",
    r"(?=a)*b", r"[\w.]*\.[0-9]+\.", r".*experts\.\d{1,3}\.", r"(?!b){2}a", r"(?i:s)(?-i:S)?", r"re:.*", r".*\.(?:q|k|v)_proj$",
    r"^(?!model\.).*", r"[\w.]*\.[0-9]+\.", r".*experts\.\d{1,3}\.", r"(?i)[a-z]+$", r"(?i)[^i-k]", r"(?i)k", r"(?i)\u0073", r"(?u)a", r"(?i-s:a)",
    # What Python refuses.
    r"(", r")", r"a)", r"[", r"[]", r"[^]", r"[a", r"*", r"a**", r"a*{2}", r"a+*", r"^*", r"$?", r"\b*", r"\A+", r"(*VERB)",
    r"(?", r"(?P", r"(?P<", r"(?P<>a)", r"(?P<a", r"(?P<1a>b)", r"(?P>a)", r"(?P=a)", r"(?P<a>b)(?P<a>c)", r"(?<a>b)",
    r"(?'a'b)", r"(?R)", r"(?1)", r"(?&a)", r"(?|a)", r"(?C)", r"(?+1)", r"\1", r"(a\1)", r"\8", r"[\8]", r"\400", r"[\777]",
    r"\x", r"\x1", r"\u12", r"\U00110000", r"\q", r"[\q]", r"[\B]", r"[\A]", r"[\Z]", r"\K", r"\R", r"\h", r"\X", r"\G", r"\Q",
    r"\E", r"\C", r"\p{L}", r"\pL", r"\g1", r"\g{1}", r"\k<a>", r"\o{1}", r"\cA", r"\e", r"a{2,1}", r"[b-a]", r"[\d-a]",
    r"[a-\d]", r"(?<=a*)", r"(?<=a|bc)", r"(?<!a?)", r"a(?i)", r"(?:(?i)a)", r"(?i", r"(?-", r"(?-)", r"(?-:a)", r"(?i-i:a)",
    r"(?L)a", r"(?iz)a", r"(?-u:a)", "\\", r"(?#a", r"a|*", r"(?<", r"(?<=", r"(?=", r"(?>", r"x{3}{4}", r"x?+?", r"a(?",
    # What is not translated.
    r"(a)?(?(1)b|c)", r"\N{DIGIT ONE}", r"(?a)\w", r"(?x) a", r"(?i)ü", r"(?i)[\x00-ü]", r"(?i)(a)\1", r"(a)(?<=\1)", r"\ud800",
]
NOT_TRANSLATED = EXPRESSIONS[-9:]

GLOBS = [
    "*", "?", "", "a", "a*", "*b", "*.*", "model.layers.*.moe*", "*layers.[0-9].*", "*layers.[!0-9]*", "[", "[]", "[!]", "[]]",
    "[!]]", "[^a]", "[a-]", "[-a]", "[--0]", "[b-a]", "[!b-a]", "[c-ab-]*", "[z-ab-c]", "[a&&b]", "[a||b]", "[~~]", "[[]", "[\\]*",
    "a\\b", "[a-b-c]", "[!-a]", "{a,b}", "$^.*+?", "***", "*?*", "a\n", "[\n]*", "**/a", "a[b", "[!", "[ü]*", "?ü*", "*[!a-z]",
]


def ask(questions):
    """The answers of the probe, in the order of the questions."""
    lines = "".join(
        json.dumps({"dialect": dialect, "pattern": pattern, "texts": texts}) + "\n"
        for dialect, pattern, texts in questions)
    result = subprocess.run(
        [str(TOOLS / "pattern-probe")], input=lines, capture_output=True, text=True, timeout=300, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def expected(pattern):
    """What `re.match` gives for every name; `None` for what is no pattern."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            compiled = re.compile(pattern)
    except (re.error, OverflowError):
        return None
    return [compiled.match(name) is not None for name in NAMES]


def differences(patterns):
    """The patterns whose answers differ from Python's, and how many were matched, refused, and not translated."""
    found, counts = [], {"matched": 0, "refused": 0, "not translated": 0}
    for pattern, answer in zip(patterns, ask(("re", pattern, NAMES) for pattern in patterns)):
        wanted = expected(pattern)
        if "matches" not in answer:
            isOurs = answer["error"].startswith("unsupported")
            counts["not translated" if isOurs else "refused"] += 1
            if wanted is not None and not isOurs:
                found.append((pattern, answer["error"]))
        elif wanted is None:
            found.append((pattern, "matched, and Python refuses it"))
        else:
            counts["matched"] += 1
            found += [
                (pattern, name, ours) for name, ours, theirs in zip(NAMES, answer["matches"], wanted) if ours != theirs]
    return found, counts


needs_current = pytest.mark.skipif(sys.version_info < (3, 11), reason="the dialect is that of Python 3.11 and later")


@needs_current
def test_expressions():
    found, counts = differences(EXPRESSIONS)
    assert found == []
    assert counts["matched"] > 100 and counts["refused"] > 80
    assert counts["not translated"] == len(NOT_TRANSLATED)
    assert all("unsupported" in answer["error"] for answer in ask(("re", pattern, []) for pattern in NOT_TRANSLATED))


ATOMS = [
    "a", "b", "c", ".", "_", "1", "x", r"\.", r"\d", r"\w", r"\W", r"\s", r"\S", r"\D", r"\b", r"\B", r"\A", r"\Z", "^", "$", "[ab]",
    "[^a]", "[a-c.]", r"[\w-]", r"[^\W_]", r"[\S]", r"\x61", r"\141", "é", "(?#x)", "{", "}", "]", "-", r"\n", "i", "s", "k", "K",
]
REPEATS = ["*", "+", "?", "*?", "+?", "??", "*+", "++", "?+", "{2}", "{1,2}", "{,2}", "{1,}", "{1,2}?", "{0}", "{2,1}", "{,}", "**"]
OPENINGS = ["(", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?P<n>", "(?i:", "(?s:", "(?m:", "(?-i:", "(?ims:", "(?i-m:", "(?P<m>"]


def any_pattern(chance, depth=0):
    """A pattern of a few pieces, most of them such as Python takes."""
    parts = []
    for _ in range(chance.randint(1, 4)):
        draw, repeats = chance.random(), REPEATS
        if draw < 0.3 and depth < 3:
            inner = any_pattern(chance, depth + 1)
            parts.append(chance.choice(OPENINGS) + inner + ")")
            # Python would take forever for repetitions of repetitions.
            repeats = ["?", "{0}", "{2}"] if set("*+{") & set(inner) else REPEATS
        elif draw < 0.33:
            parts.append(chance.choice([r"\1", r"\2", "(?P=n)"]))
        elif draw < 0.4:
            parts.append("|")
        else:
            parts.append(chance.choice(ATOMS))
        if chance.random() < 0.3:
            parts.append(chance.choice(repeats))
    flags = chance.choice(["", "", "", "(?i)", "(?s)", "(?m)", "(?im)"]) if depth == 0 else ""
    return flags + "".join(parts)


def seeds():
    """`STEP3_PROPERTY_SEEDS=2000` for more, `=17:18` for one."""
    text = os.environ.get("STEP3_PROPERTY_SEEDS", "4")
    first, _, last = text.rpartition(":")
    return range(int(first or 0), int(last))


@needs_current
@pytest.mark.parametrize("seed", seeds())
def test_random_expressions(seed):
    chance = random.Random(seed)
    patterns = [any_pattern(chance) for _ in range(2000)]
    # Then such as somebody mistyped.
    for pattern in patterns[:500]:
        at = chance.randrange(len(pattern))
        changed = pattern[:at] + chance.choice(r"()[]{}*+?|\^$-,:=!<>#PiaZ01") + pattern[at + chance.randint(0, 1):]
        if not re.search(r"\)[*+{]", changed):
            patterns.append(changed)
    found, counts = differences(patterns)
    assert found == [], f"{len(found)} of {len(patterns)}"
    assert counts["matched"] > 800 and counts["refused"] > 200


@needs_current
def test_shell_patterns():
    chance = random.Random(3)
    patterns = GLOBS + [
        "".join(chance.choice("**??[[]]!--^ab.1cz&|~\\\nü") for _ in range(chance.randint(1, 9))) for _ in range(2000)]
    for pattern, answer in zip(patterns, ask(("fnmatch", pattern, NAMES) for pattern in patterns)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            assert answer["matches"] == [fnmatch.fnmatchcase(name, pattern) for name in NAMES], pattern
