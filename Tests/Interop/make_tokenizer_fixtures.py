"""Makes Fixtures/tokenizer: many texts encoded by the package `tokenizers` with many tokenizers.

    python Tests/Interop/make_tokenizer_fixtures.py          # tokenizers 0.23.3

- gpt2.json, llama3.json, qwen2.json: small tokenizers, trained here, that split text as those models do.
- cases.json: texts, and their ids by these tokenizers and by those of two fixture checkpoints; also the texts of ids.
- crossing.json: a model whose merges cross all word boundaries, so that ids show where a text was split;
  variants.json: what takes the place of members of that document, with texts and ids.
- categories.txt: the general category of each scalar to the regular expressions of the package.
"""

import json
import random
import unicodedata
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = Path(__file__).parents[2] / "Fixtures"
OUT = ROOT / "tokenizer"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
).replace("{1,3}+", "{1,3}")
CORPUS = [
    "The lighthouse keeper counted the boats that came back before the storm, and wrote their names in the book.",
    "When the river rises above the third stone, the bridge is closed and the children take the long way to school.",
    "def add(a, b):\n    return a + b\n\nfor i in range(10):\n    print(i, add(i, 1))\n",
    "In 1987 there were 1,204 houses on the island; by 2024 there were 3,981, and 45% of them stood empty.",
    "We don't know who's there, but they've left the door open, haven't they? I'll look; you'd better wait here.",
    "Das Haus am See ist alt. La maison est près de l'eau. La casa está vacía. Дом стоит у воды.",
    "这座房子在湖边。今天的天气很好。船は港に戻りました。",
]
HAND = [
    "", " ", "\n", "\r\n", "\t", "  ", "a", "é", "e\u0301", "Hello, world!", "  two  spaces\n\nand lines\t.  ",
    "12345 + 678 = 13023", "1 22 333 4444 55555 666666", "don't I'll they've WE'LL IT'S I'M you'D o'ſ 'K",
    "naïve café — “quotes” ‘single’", "这座房子在湖边。今天, 3 个人", "船は港に戻りました。カタカナ゠ヿ一龥龦", "👋🏽 emoji 👩‍👩‍👧‍👦 🏳️‍🌈🇩🇪",
    "def f(x):\n    return x**2\n", "a\r\nb\r\n\r\nc\rd\n\re", "\u00a0nbsp\u2003em\u3000ideographic\u200bzero\u2028line\u2029para\u0085nel",
    "\u0000\u0001\u001f\u007f\u0080\u009f", "a \ufeffbom \ufffd \ufffe \uffff \U0010ffff \ue000", "x" * 70, " " * 40 + "x", "\n" * 20,
    " \n \n  \n", "   \n", "\n   ", "a  \n", "!!!???...", "a!b c!d", "$100 €5 ¥20 ₿1 ¼ ½ ² ³ Ⅷ ٣٤٥ १२३ 𝟏𝟐𝟑𝟒",
    "क्षत्रिय हिन्दी में", "สวัสดีครับ", "שָׁלוֹם עולם", "مرحبا بالعالم", "한국어 각 각", "ᄀ가", "Ελληνικά ΣΑΣ ς", "ǅ ǈ ʰ ª º",
    "\u0301\u0301 a\u0323\u0307 a\u0307\u0323 ẛ̣ Å Å ﬁ ﬀ", "\u1e9e ß SS", "a_b __init__ snake_case CamelCase HTTPServer",
    "http://example.com/a?b=c&d=e#f", "C:\\Users\\me\\x", "{\"a\": [1, 2.5e-3, null]}", "<im_start>", "a<im_start>b",
    " <im_patch> <im_patch>\n<im_end> ", "<think>\nhm\n</think>", "<im_star>", "<im_start", "<<im_start>>", "<|BOT|>user<|EOT|>",
    "<｜begin▁of▁sentence｜>x<｜end▁of▁sentence｜>", "<|begin_of_text|>hi<|end_of_text|>", "<|endoftext|>x <|endoftext|>",
    "<|im_start|>user\nhi<|im_end|>", "<tool_call> x </tool_call>", "q\u0301uoted", "\u088f\u1c89\u1acf\U0001cd00 new",
    "tab\tseparated\t\tvalues\t", "trailing   ", "   leading", "mixed 中文and English混合", "ʼn 's ’s ´s", "1,234.56%", "α1β2γ3", "'", "''s", " 's",
]  # fmt: skip


def random_texts(count: int, seed: int = 7) -> list[str]:
    rng = random.Random(seed)
    pools = [
        "abcdefghij theTHE", " \t\n\r ", "0123456789", ".,;:!?'\"()[]{}<>|/\\-_+*=&%$#@~^`", "éèüßñçøåæ", "中文这座房子湖边天气", "かなカナー゠",
        "абвгДом", "αβγΔς", "हिन्दीक्षि", "عربيשלום", "\u0300\u0301\u0323\u0327\u0345\u20dd\ufe0f\u200d", "👋🏽👩👧🇩🇪🏳🌈", "²½Ⅷ٣१𝟏", "\u00a0\u2003\u3000\u200b\u2028\x85\x00\x7f",
        "ﬁẛ각가ǅʰªÅ", "\U00010400\U0001d400\U00020000\ue000\u0378\U000e0001",
    ]  # fmt: skip
    words = [" the", "'s", "'LL", "\r\n", "    ", "<im_start>", "<think>", "<|EOT|>", "<|im_end|>", "house", "1987", " 房子", "://"]
    texts = []
    for _ in range(count):
        chosen = rng.sample(pools, rng.randint(1, 5))
        parts = []
        for _ in range(rng.randint(1, 9)):
            if rng.random() < 0.25:
                parts.append(rng.choice(words))
            else:
                pool = rng.choice(chosen)
                parts.append("".join(rng.choice(pool) for _ in range(rng.randint(1, 4))))
        texts.append("".join(parts))
    return texts


def train(tokenizer: Tokenizer, size: int, special: list[str]) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)


def byte_level(use_regex: bool = False, prefix: bool = False) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=use_regex)


def gpt2() -> Tokenizer:
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = byte_level(use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    train(tok, 420, ["<|endoftext|>"])
    return tok


def llama3() -> Tokenizer:
    tok = Tokenizer(models.BPE(ignore_merges=True))
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), byte_level()])
    tok.decoder = decoders.ByteLevel()
    train(tok, 420, [])
    # Words that no merge produces: only ignore_merges finds them.
    document = json.loads(tok.to_str())
    for word in ("Ġsnake", "Ġ房"):
        text = "".join(ALPHABET[b] for b in word.replace("Ġ", " ").encode())
        document["model"]["vocab"][text] = len(document["model"]["vocab"])
    tok = Tokenizer.from_str(json.dumps(document))
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<|begin_of_text|>", "<|end_of_text|>")])
    bos = ("<|begin_of_text|>", tok.token_to_id("<|begin_of_text|>"))
    template = processors.TemplateProcessing(single=f"{bos[0]} $A", pair=f"{bos[0]} $A {bos[0]}:1 $B:1", special_tokens=[bos])
    tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tok


def qwen2() -> Tokenizer:
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2), "isolated"), byte_level()])
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    train(tok, 420, [])
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    tok.add_tokens([AddedToken(t, normalized=False) for t in ("<tool_call>", "</tool_call>")])
    # Decomposed here, but looked for in composed text.
    tok.add_tokens([AddedToken("q\u0301uote\u0301d", normalized=True)])
    return tok


def alphabet() -> dict[int, str]:
    table, extra = {}, 0x100
    for byte in range(256):
        if 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or byte >= 0xAE:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(extra)
            extra += 1
    return table


ALPHABET = alphabet()


def crossing() -> dict:
    """A model that joins any two neighbours of the variants' texts, and then pairs of pairs."""
    pairs = set()
    for text in VARIANT_TEXTS:
        symbols = [ALPHABET[b] for b in text.encode()]
        pairs |= set(zip(symbols, symbols[1:]))
    merges = sorted(pairs)
    random.Random(3).shuffle(merges)
    for text in VARIANT_TEXTS[:6]:
        joined = ["".join(ALPHABET[b] for b in text.encode()[i : i + 2]) for i in range(0, len(text.encode()) - 1, 2)]
        merges += [pair for pair in zip(joined, joined[1:]) if len(pair[1]) == 2 and pair not in merges]
    vocab = dict.fromkeys([*ALPHABET.values(), *(a + b for a, b in merges)])
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(vocab)}, merges=merges))
    tok.pre_tokenizer = byte_level()
    tok.decoder = decoders.ByteLevel()
    document = json.loads(tok.to_str())
    document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]  # the old spelling
    return document


VARIANT_TEXTS = [
    "aab  AB12,345 x!? b", "  a\n\n b\t\n", "Ab's AB'S aB'll", "aaa bbb\nccc\n", "1a22b333", "é2É ½ x²", "foo-bar_baz",
    "a", " ", "\n", "[a] <b>  [c]", "AAbbAA  \r\n x", "xx[T]xx [T] [T]", "a[L] \n [L]b  [R]  [R] c[S] [S] d[S]", "ﬁ Å e\u0301 [Å]",
]  # fmt: skip

PATTERNS = [
    r"a", r"a|b", r"ab|a", r"[a-c]+", r"[^a-c]+", r"\s+", r"\S+", r"\d+", r"\D", r"\p{L}+", r"\P{L}+", r"\p{^L}+", r"\p{Lu}\p{Ll}*",
    r"[\p{L}\p{N}]+", r"[^\s\p{L}]+", r"\s+$", r"^\s*\S", r"\A.", r".\z", r".+", r"a+?", r"a{2}", r"a{2,}", r"a{1,2}", r"a{,2}b", r"[ab]{1,2}?c?a",
    r"(ab)+", r"(?:a|b)+", r"(?:ab?)+c", r"(?:a|b)+?\s", r"a++b", r"a?+b", r"\s*+b", r"x(?=x)", r"x(?!x)", r"\s+(?!\S)|\s+", r"(?i:ab)", r"(?i:[a-b]+)'",
    r"(?i:'s|'ll)", r"(?i:k|s)", r"\[.*?\]", r"[\[\]<>]", r"[\-_]", r"[a\-c]", r"[-a]", r"[a-]", r"\x41", r"\x{e9}", r"\u0041", r"\n+", r"[\r\n]+",
    r"\t|\n(?=.)", r"(a|ab)(c|b)", r"(?:a(?=b)|b(?!c))+", r"[^\S\n]+", r"[\s\d]+", r"[^\s\d]+", r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿé]+",
    r"(?:\s|\d){2}", r"(?:a{2}|b)c?", r"(?:x(?:\[T\])?)+x", O200K, CL100K, LLAMA3,
]  # fmt: skip


def added(content: str, **kinds: bool) -> dict:
    token = {"id": -1, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return {**token, **kinds}


def split(pattern: str, behavior: str = "Isolated", invert: bool = False, kind: str = "Regex") -> dict:
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def sequence(*steps: dict, last: dict = BYTES) -> dict:
    return {"type": "Sequence", "pretokenizers": [*steps, last]}


def variants(base: dict) -> list[dict]:
    """Members that replace those of the base document; ids of added tokens are filled in."""
    found: list[dict] = [{"pre_tokenizer": sequence(split(p))} for p in PATTERNS]
    for behavior in ("Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"):
        for pattern in (r"\s", r"[ab]", r"a+|\n"):
            found += [{"pre_tokenizer": sequence(split(pattern, behavior, invert))} for invert in (False, True)]
        found.append({"pre_tokenizer": sequence(split("[", behavior, kind="String"), split(r"\s", behavior))})
    found += [{"pre_tokenizer": sequence({"type": "Digits", "individual_digits": each})} for each in (True, False)]
    found.append({"pre_tokenizer": {**BYTES, "use_regex": True, "add_prefix_space": True}})
    found.append({"pre_tokenizer": sequence(split(r"\s"), last={**BYTES, "add_prefix_space": True})})
    words = [added("[T]", special=True), added("[L]", lstrip=True), added("[R]", rstrip=True), added("[S]", single_word=True)]
    found.append({"added_tokens": words})
    found.append({"added_tokens": [{**token, "normalized": True} for token in words], "normalizer": {"type": "NFC"}})
    found.append({"added_tokens": [added("[T"), added("[T]x"), added("x[T]"), added("x"), added("aa"), added(" ", rstrip=True)]})
    found.append({"added_tokens": [added("é", single_word=True), added("b", single_word=True), added("\n", lstrip=True, rstrip=True)]})
    found.append({"added_tokens": [added("[\u212b]", normalized=True), added("[\u00c5", special=True)], "normalizer": {"type": "NFC"}})
    for forms in (["NFC"], ["NFD"], ["NFKC"], ["NFKD"], ["NFKD", "NFC"], []):
        found.append({"normalizer": {"type": "Sequence", "normalizers": [{"type": form} for form in forms]}})
    tokens = list(base["model"]["vocab"])
    missing = {ALPHABET[b] for b in b" 2\n\xc3"}
    merges = [m for m in base["model"]["merges"] if not any(c in m.replace(" ", "") for c in missing)]
    holes = [t for t in tokens if not any(c in t for c in missing)]
    fallback = holes + ["<unk>"] + [f"<0x{b:02X}>" for b in ALPHABET[0x20].encode() + ALPHABET[0x0A].encode()]
    for names, extra in [
        (holes, {}), (holes + ["<unk>"], {"unk_token": "<unk>", "fuse_unk": True}),
        (fallback, {"byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True}),
    ]:  # fmt: skip
        model = {**base["model"], **extra, "vocab": {t: i for i, t in enumerate(names)}, "merges": [m.split(" ") for m in merges]}
        found.append({"model": model})
    reversed_merges = [m.split(" ") for m in reversed(base["model"]["merges"])]
    found.append({"model": {**base["model"], "merges": reversed_merges + reversed_merges[:7]}})
    found.append({"model": {**base["model"], "ignore_merges": True}, "pre_tokenizer": sequence(split(r"\s"))})
    found.append({"decoder": None})
    for variant in found:
        vocab = (variant.get("model") or base["model"])["vocab"]
        fresh = len(vocab)
        for token in variant.get("added_tokens", []):
            token["id"] = vocab.get(token["content"], fresh)
            fresh += token["content"] not in vocab
    return found


def delta(model: dict, base: dict) -> dict:
    """A model as its differences from the base, to save space; the test applies them."""
    return {key: value for key, value in model.items() if value != base["model"].get(key)}


def write(name: str, value: object) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")


def main() -> None:
    trained = {"gpt2": gpt2(), "llama3": llama3(), "qwen2": qwen2()}
    for name, tok in trained.items():
        write(f"{name}.json", json.loads(tok.to_str()))
    loaded = {name: Tokenizer.from_file(str(OUT / f"{name}.json")) for name in trained}
    loaded |= {name: Tokenizer.from_file(str(ROOT / "checkpoints" / name / "tokenizer.json")) for name in ("tiny", "odd")}
    texts = HAND + random_texts(80)
    cases: dict = {"texts": texts, "ids": {}, "special": {}, "decoded": {}}
    rng = random.Random(11)
    for name, tok in loaded.items():
        cases["ids"][name] = [tok.encode(t, add_special_tokens=False).ids for t in texts]
        cases["special"][name] = tok.encode("a b", add_special_tokens=True).ids
        rows = [[rng.randrange(tok.get_vocab_size() + 3) for _ in range(rng.randint(1, 12))] for _ in range(24)]
        cases["decoded"][name] = [[row, tok.decode(row, skip_special_tokens=False), tok.decode(row, skip_special_tokens=True)] for row in rows]
    write("cases.json", cases)

    base = crossing()
    write("crossing.json", base)
    rows = []
    for members in variants(base):
        tok = Tokenizer.from_str(json.dumps({**base, **members}))
        ids = [tok.encode(t, add_special_tokens=False).ids for t in VARIANT_TEXTS]
        rows.append({"members": members, "ids": ids, "decoded": [tok.decode(i, skip_special_tokens=True) for i in ids]})
    for row in rows:
        if row["decoded"] == VARIANT_TEXTS:
            del row["decoded"]
        model = row["members"].get("model")
        if model:
            row["members"]["model"] = delta(model, base)
    write("variants.json", {"texts": VARIANT_TEXTS, "variants": rows})

    scalars = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    category = ["Cn"] * len(scalars)
    for name in sorted({unicodedata.category(c) for c in scalars} - {"Cn"}):
        pattern = pre_tokenizers.Split(Regex(rf"\p{{{name}}}"), "removed", True)
        for start in range(0, len(scalars), 4096):
            for piece, _ in pattern.pre_tokenize_str("".join(scalars[start : start + 4096])):
                for scalar in piece:
                    index = ord(scalar) - (0x800 if ord(scalar) >= 0xE000 else 0)
                    category[index] = name
    runs: list[list] = []
    for name in category:
        if runs and runs[-1][0] == name:
            runs[-1][1] += 1
        else:
            runs.append([name, 1])
    lines = [" ".join(name + (str(count) if count > 1 else "") for name, count in runs[i : i + 24]) for i in range(0, len(runs), 24)]
    (OUT / "categories.txt").write_text("\n".join(lines) + "\n", "utf-8")
    for file in sorted(OUT.iterdir()):
        print(f"{file.stat().st_size:8d} {file.name}")


if __name__ == "__main__":
    main()
