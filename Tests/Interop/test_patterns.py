"""Patterns in foreign dialects: those of module lists, against Python's own `re` and `fnmatch`, with which engines match them;
those of `tokenizer.json`, against the package `tokenizers`."""

import dataclasses
import fnmatch
import json
import os
import random
import re
import subprocess
import sys
import warnings

import pytest
import tokenizers

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
    """The probe's answers, in the order of the questions."""
    lines = "".join(
        json.dumps({"dialect": dialect, "pattern": pattern, "texts": texts}) + "\n"
        for dialect, pattern, texts in questions)
    result = subprocess.run(
        [str(TOOLS / "pattern-probe")], input=lines, capture_output=True, text=True, timeout=300, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def expected(pattern):
    """The result of `re.match` for every name; `None` for an invalid pattern."""
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


@dataclasses.dataclass
class Grammar:
    """The building blocks of a dialect's random patterns."""

    atoms: list
    repeats: list
    openings: list
    references: list
    flags: list
    # What may follow a group that contains repetitions: some choices would take one side forever.
    outer_repeats: list
    repeated: float

    def pattern(self, chance, depth=0):
        """A pattern of a few pieces, most of them valid in the dialect."""
        parts = []
        for _ in range(chance.randint(1, 4)):
            draw, repeats = chance.random(), self.repeats
            if draw < 0.3 and depth < 3:
                inner = self.pattern(chance, depth + 1)
                parts.append(chance.choice(self.openings) + inner + ")")
                if set("*+{") & set(inner):
                    repeats = self.outer_repeats
            elif draw < 0.33 and self.references:
                parts.append(chance.choice(self.references))
            elif draw < 0.4:
                parts.append("|")
            else:
                parts.append(chance.choice(self.atoms))
            if chance.random() < self.repeated:
                parts.append(chance.choice(repeats))
        flags = chance.choice(self.flags) if depth == 0 and self.flags else ""
        return flags + "".join(parts)


PYTHON = Grammar(
    ATOMS, REPEATS, OPENINGS, references=[r"\1", r"\2", "(?P=n)"], flags=["", "", "", "(?i)", "(?s)", "(?m)", "(?im)"],
    outer_repeats=["?", "{0}", "{2}"], repeated=0.3)


def seeds():
    """`STEP3_PROPERTY_SEEDS=2000` for more, `=17:18` for one."""
    text = os.environ.get("STEP3_PROPERTY_SEEDS", "4")
    first, _, last = text.rpartition(":")
    return range(int(first or 0), int(last))


@needs_current
@pytest.mark.parametrize("seed", seeds())
def test_random_expressions(seed):
    chance = random.Random(seed)
    patterns = [PYTHON.pattern(chance) for _ in range(2000)]
    # Then mistyped ones.
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


TEXTS = [
    "", "a", "ab ba", "  Hello, World's  don't\n\n  x = 12345;\r\n\t#9", "ÀÉß ſt K ﬁ ff SS straße", "中文，한국어 かな\u3000。",
    "١٢٣ ²³ Ⅷ ½ e\u0301\u0302 ก็ \u200d🙂", "\x00\x0b\x0c\x1c\x85\xa0\u2028", "\U00031350\U0001E5D0\uA7CB\u1C89 \U00010D40", "aaaa bbbb",
    "\n\n\na\n", "a1b2-c3_d4[e]5{f}&^$",
]

TOKENIZER_EXPRESSIONS = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+",
    r"[一-龥\u0800-一가-퟿]+", r"[一-龥぀-ゟ゠-ヿ]+", r"[中ß]", r"[一-龥-]", r"[中-]+", r"[-中]", r"[^中]+", r"[中]a", r"[a][中]+", r"\d", r"\D+", r"[\d\s]", r"[^\d\s]+", r"\h", r"\H", r"a\Z", r"\Aa", r"a\z", r"^a", r"a$", r".", r".+",
    r"(?<=a)b", r"(?<!a)b", r"(?<=ab|c)\s", r"(?<name>a)b", r"(?>a+)b?", r"[a&&b]", r"[a-z&&[^aeiou]]+", r"[\p{L}&&[^\p{Lu}]]+",
    r"[[a-c][x-z]]", r"[^[a-c]]+", r"a*", r"a*?", r"(?:a|)", r"(?:a|b*)", r"a**", r"a+?", r"a??", r"(a*)*b", r"(?:ab|a)+", r"a{3}+",
    r"a{2,1}", r"a{,2}", r"a{2,}", r"a{2}?", r"a{1,2}?", r"(?:(?:ab){100}){100}", r"a{2000}", r"(?i:ss)", r"(?i:ff)", r"(?i:st)",
    r"(?i:k)", r"(?i)s", r"(?i)a(?-i)B", r"x(?i)a|B", r"(?i:[a-z])+", r"(?i:[^a-z])+", r"(?=a)", r"(?=a)a", r"(?!a)", r"(?:ab)++",
    r"a++b", r"a?+", r"a*+", r"", r"|a", r"()", r"\p{^L}+", r"\P{L}+", r"\P{^L}+", r"[\P{L}]+", r"[^\P{L}a]+", r"\p{M}", r"\p{S}+", r"\p{P}+",
    r"\p{Z}", r"\p{C}", r"\p{Cn}", r"\x41", r"\x{4e2d}", r"\u4e2d", r"[\x{4e00}-\x{9fff}]+", r"\t", r"\v", r"\f", r"\a", r"\e", r"\-", r"[\-\]a]",
    r"[a-]", r"[-a]", r"[^-\s]", r"[a^]", r"\#", r"{a", r"a}", r"]", r"\s*[\r\n]+", r"(?:\s)+$", r"(?<=\s)\S+(?=\s)", r" +(?! )",
]
REFUSED_BY_BOTH = [r"(", r")", r"[", r"[a", r"*", r"+a", r"a|*", r"(?", r"(?<", r"[b-a]", r"\p{Nope}", r"^*", r"(?=a)+", "\\"]

TOKENIZER_ATOMS = [
    "a", "b", " ", r"\s", r"\S", r"\p{L}", r"\p{N}", r"\d", "[ab]", r"[^\s\p{L}]", r"[\p{Lu}\d]", ".", r"\n", "中", "'", "^", "$", r"\P{L}",
    "[a-c&&[^b]]", r"\h",
]
TOKENIZER_REPEATS = ["*", "+", "?", "*?", "+?", "??", "*+", "++", "?+", "{2}", "{1,2}", "{,2}", "{1,}", "{1,2}?", "{2}+"]
TOKENIZER_OPENINGS = ["(", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?<n>", "(?-i:"]


TOKENIZERS = Grammar(
    TOKENIZER_ATOMS, TOKENIZER_REPEATS, TOKENIZER_OPENINGS, references=[], flags=[], outer_repeats=["?", "{2}", "+"],
    repeated=0.35)


def pieces(pattern, behaviour, text):
    """The pieces that `tokenizers` splits a text into, in characters; `None` for an invalid pattern."""
    try:
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), behaviour)
    except Exception:
        return None
    return [offsets for _, offsets in split.pre_tokenize_str(text)]


def pieces_of_matches(places, behaviour, text):
    """The same from matches, which are in bytes."""
    data = text.encode()
    parts, end = [], 0
    for start, stop in places:
        parts.append((end, start, False))
        parts.append((start, stop, True))
        end = stop
    parts.append((end, len(data), False))
    return [
        (len(data[:start].decode()), len(data[:stop].decode())) for start, stop, is_match in parts
        if start < stop and not (is_match and behaviour == "removed")]


def check_tokenizer_patterns(patterns):
    """The numbers of patterns answered and refused, and of answers that took too many steps."""
    counts = {"answered": 0, "refused": 0, "too long": 0}
    for pattern, answer in zip(patterns, ask(("tokenizer", pattern, TEXTS) for pattern in patterns)):
        if "places" not in answer:
            is_ours = answer["error"].startswith("unsupported")
            assert is_ours or pieces(pattern, "isolated", "a") is None, (pattern, answer)
            counts["refused"] += 1
            continue
        counts["answered"] += 1
        for behaviour in ("isolated", "removed"):
            for text, places in zip(TEXTS, answer["places"]):
                if places is None:
                    counts["too long"] += 1
                    continue
                found = pieces_of_matches(places, behaviour, text)
                assert found == pieces(pattern, behaviour, text), (pattern, text, places)
    return counts


def test_tokenizer_expressions():
    counts = check_tokenizer_patterns(TOKENIZER_EXPRESSIONS)
    assert counts == {"answered": len(TOKENIZER_EXPRESSIONS), "refused": 0, "too long": 0}
    for pattern, answer in zip(REFUSED_BY_BOTH, ask(("tokenizer", pattern, []) for pattern in REFUSED_BY_BOTH)):
        assert "error" in answer and pieces(pattern, "isolated", "a") is None, pattern


@pytest.mark.parametrize("seed", seeds())
def test_random_tokenizer_expressions(seed):
    chance = random.Random(seed)
    counts = check_tokenizer_patterns([TOKENIZERS.pattern(chance) for _ in range(1000)])
    # A repetition of repetitions is drawn now and then.
    assert counts["answered"] > 400 and counts["too long"] < 10


@pytest.mark.parametrize("category", [
    "L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
    "S", "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl", "Zp", "C", "Cc", "Cf", "Co", "Cn"])
def test_every_scalar(category):
    """All of Unicode, whatever version the system's Oniguruma has; of planes with a single category, only the ends."""
    ends = [plane + place for plane in range(0x30000, 0x110000, 0x10000) for place in (*range(0x200), 0xFFFD, 0xFFFE, 0xFFFF)]
    text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x32400), *ends]))
    for pattern in (rf"\p{{{category}}}+", rf"[^\p{{{category}}}]+") + ((r"\d+", r"\s+", r"\h+", ".+") if category == "L" else ()):
        [answer] = ask([("tokenizer", pattern, [text])])
        assert pieces_of_matches(answer["places"][0], "removed", text) == pieces(pattern, "removed", text), pattern
