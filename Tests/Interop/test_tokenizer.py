"""The tokenizer in a GGUF file, against `gguf`, `tokenizers` and `transformers` on the same checkpoint."""

import json
import shutil

import gguf
import pytest
import tokenizers
import transformers

from arithmetic import load_json, metadata
from conftest import FIXTURES

SOURCE = FIXTURES / "checkpoints" / "tiny"
SIZE = 512

ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + REST
QWEN2 = ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + REST
TEXTS = [
    "The boats' crew didn't KNOW 12345 of them.\n\n  x = y+1;\t#done", "naïve café — Привет, 你好世界 カタカナ 안녕",
    "  leading\r\n\r\ntrailing   ", "🚀🙂 a_b/c//d 3.14159 'RE \u00a0\u3000 e\u0301",
]


def corpus():
    return [line for path in sorted(FIXTURES.glob("../Manuals/*.md")) for line in path.read_text().splitlines()]


def split(pattern):
    return tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")


def bytelevel(regex):
    return tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)


def sequence(*steps):
    return tokenizers.pre_tokenizers.Sequence(list(steps))


PRE = {
    "gpt-2": bytelevel(True),
    "starcoder": sequence(tokenizers.pre_tokenizers.Digits(individual_digits=True), bytelevel(True)),
    "llama-bpe": sequence(split(LLAMA3), bytelevel(False)),
    "qwen2": sequence(split(QWEN2), bytelevel(False)),
    "deepseek-v3": None,
}
SPECIAL = ["<s>", "</s>", "<pad>", "<turn>", "<sep>", "<mask>", "<extra>"]


def train(pre):
    """A tokenizer trained on real texts, with some special tokens after its vocabulary."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    if pre is None:
        pre = tokenizers.Tokenizer.from_file(str(SOURCE / "tokenizer.json")).pre_tokenizer
    if pre is PRE["qwen2"]:
        tokenizer.normalizer = tokenizers.normalizers.NFC()
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=SIZE - 12, show_progress=False, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def checkpoint(path, tokenizer, companion=None, generation=None, config=None, files=None):
    """A copy of a fixture with another tokenizer."""
    shutil.copytree(SOURCE, path, ignore=shutil.ignore_patterns("reference", "tokenizer*", "generation_config.json"))
    if isinstance(tokenizer, dict):
        (path / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    elif tokenizer is not None:
        tokenizer.save(str(path / "tokenizer.json"))
    if companion is not None:
        companion = {"tokenizer_class": "PreTrainedTokenizerFast", **companion}
        (path / "tokenizer_config.json").write_text(json.dumps(companion))
    if generation is not None:
        (path / "generation_config.json").write_text(json.dumps(generation))
    model = load_json(path / "config.json")
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        model.pop(key, None)
        model.get("text_config", {}).pop(key, None)
    model.update(config or {})
    (path / "config.json").write_text(json.dumps(model))
    for name, text in (files or {}).items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(text)
    return path


def convert(tools, source, output, *options):
    tools.convert(source, output, "--to", "gguf", "--quantize", "BF16", *options)
    keys = metadata(gguf.GGUFReader(output / "model.gguf"))
    return {key: value for key, value in keys.items() if key.startswith("tokenizer.")}


def reference(path, output):
    """All keys that the gguf package writes for a checkpoint: the vocabulary by transformers, the rest by SpecialVocab."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    ids = {index: text for text, index in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for index in range(SIZE):
        tokens.append(ids.get(index, f"[PAD{index}]"))
        kind = gguf.TokenType.UNUSED if index not in ids else gguf.TokenType.NORMAL
        if index in added:
            kind = gguf.TokenType.CONTROL if added[index].special else gguf.TokenType.USER_DEFINED
        types.append(kind)
    writer = gguf.GGUFWriter(output, "step3")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    gguf.SpecialVocab(path, load_merges=True).add_to_gguf(writer, quiet=True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return {key: value for key, value in metadata(gguf.GGUFReader(output)).items() if key.startswith("tokenizer.")}


def same(ours, theirs, pre):
    assert ours.pop("tokenizer.ggml.pre") == pre
    # The reference leaves out false values; readers default to false for these keys, but not for all.
    theirs.setdefault("tokenizer.ggml.add_bos_token", False)
    for keys in (ours, theirs):
        keys.get("tokenizer.chat_templates", []).sort()
    assert ours == theirs


def template(single, pair, tokenizer):
    ids = [(token, tokenizer.token_to_id(token)) for token in SPECIAL]
    return tokenizers.processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)


@pytest.mark.parametrize("pre", PRE)
def test_every_key_matches_the_reference(tools, tmp_path, pre):
    tokenizer = train(PRE[pre])
    tokenizer.post_processor = template("<s> $A", "<s> $A <s> $B", tokenizer)
    source = checkpoint(
        tmp_path / "source", tokenizer,
        {"bos_token": "<s>", "eos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": False}, "pad_token": "<pad>",
         "mask_token": "<mask>", "sep_token": "<sep>", "unk_token": "<extra>", "chat_template": "{{ messages }}"},
        {"eos_token_id": tokenizer.token_to_id("</s>"), "pad_token_id": -1})
    ours = convert(tools, source, tmp_path / "output")
    assert ours["tokenizer.ggml.add_bos_token"] is True
    same(ours, reference(source, tmp_path / "reference.gguf"), pre)


@pytest.mark.parametrize("pre", PRE)
def test_files_rebuilt_from_gguf_encode_alike(tools, tmp_path, pre):
    """Tokenizer files rebuilt from a GGUF encode as the original does."""
    tokenizer = train(PRE[pre])
    tokenizer.post_processor = template("<s> $A </s>", "<s> $A </s> <s> $B </s>", tokenizer)
    templates = [{"name": "default", "template": "D"}, {"name": "rag", "template": "R"}]
    source = checkpoint(
        tmp_path / "source", tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "chat_template": templates})
    convert(tools, source, tmp_path / "middle")
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in (tmp_path / "middle").glob("*.gguf"):
        shutil.copy(path, alone / path.name)
    tools.convert(alone, tmp_path / "back", "--to", "safetensors")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    first = transformers.AutoTokenizer.from_pretrained(source)
    for text in TEXTS:
        assert again.encode(text) == first.encode(text), text
        assert again.encode(text, add_special_tokens=False) == first.encode(text, add_special_tokens=False), text
    assert again.chat_template == {"default": "D", "rag": "R"}
    assert (again.bos_token, again.eos_token) == ("<s>", "</s>")


@pytest.mark.parametrize("single, pair, companion", [
    ("<s> $A </s>", "<s> $A </s> <s> $B </s>", {"bos_token": "<s>", "eos_token": "</s>"}),
    ("<s> $A", "<s> $A </s> $B", {"bos_token": "<s>", "eos_token": "</s>"}),
    ("<s> $A <turn>", "<s> $A <turn> $B <turn>", {"bos_token": "<s>", "eos_token": "</s>"}),
    ("<s> $A", "<s> $A $B", {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": False, "add_eos_token": True}),
    ("<mask> $A", "<mask> $A $B", {"bos_token": "<s>", "eos_token": "</s>"}),
    ("$A <sep>", "$A <sep> $B <sep>", {"cls_token": "<s>", "sep_token": "<sep>"}),
])
def test_tokens_around_texts_match_the_reference(tools, tmp_path, single, pair, companion):
    tokenizer = train(PRE["gpt-2"])
    tokenizer.post_processor = template(single, pair, tokenizer)
    source = checkpoint(tmp_path / "source", tokenizer, companion)
    same(convert(tools, source, tmp_path / "output"), reference(source, tmp_path / "reference.gguf"), "gpt-2")


TEMPLATES = [{"name": "default", "template": "D"}, {"name": "tool-use", "template": "T"}, {"name": "rag", "template": "R"}]


@pytest.mark.parametrize("companion, files", [
    ({"chat_template": "C"}, {}),
    ({"chat_template": TEMPLATES}, {}),
    ({"chat_template": TEMPLATES[1:]}, {}),
    ({}, {"chat_template.jinja": "{{ 'Jinja' }}\n"}),
    ({}, {"chat_template.jinja": "J", "additional_chat_templates/tool_use.jinja": "T"}),
    ({}, {"chat_template.json": json.dumps({"chat_template": "P"})}),
    ({}, {"chat_template.json": json.dumps({"chat_template": TEMPLATES})}),
    ({"chat_template": "C"}, {"chat_template.json": json.dumps({"chat_template": "P"})}),
    ({}, {}),
])
def test_chat_templates_match_the_reference(tools, tmp_path, companion, files):
    source = checkpoint(tmp_path / "source", train(PRE["gpt-2"]), {"bos_token": "<s>", **companion}, files=files)
    same(convert(tools, source, tmp_path / "output"), reference(source, tmp_path / "reference.gguf"), "gpt-2")


def test_of_two_chat_templates_transformers_wins(tools, tmp_path):
    """Where the reference libraries disagree, transformers' template wins, because it serves the model."""
    source = checkpoint(
        tmp_path / "source", train(PRE["gpt-2"]), {"chat_template": "C"}, files={"chat_template.jinja": "J"})
    assert transformers.AutoTokenizer.from_pretrained(source).chat_template == "J"
    assert convert(tools, source, tmp_path / "output")["tokenizer.chat_template"] == "J"


@pytest.mark.parametrize("place", ["config", "text_config", "generation"])
@pytest.mark.parametrize("kind", ["bos", "eos", "pad"])
def test_negative_means_none(tools, tmp_path, place, kind):
    key = f"{kind}_token_id"
    config = {}
    if place == "config":
        config = {key: -1}
    elif place == "text_config":
        config = {"text_config": {**load_json(SOURCE / "config.json")["text_config"], key: -1}}
    source = checkpoint(
        tmp_path / "source", train(PRE["gpt-2"]), {}, {key: -1} if place == "generation" else {}, config)
    ours = convert(tools, source, tmp_path / "output")
    assert not [key for key in ours if key.endswith("_token_id") and kind[:3] in key]


def test_end_tokens_match_the_reference(tools, tmp_path):
    tokenizer = train(PRE["gpt-2"])
    ids = [tokenizer.token_to_id(token) for token in ("<turn>", "<extra>", "</s>")]
    source = checkpoint(tmp_path / "source", tokenizer, {"eos_token": "</s>"}, {"eos_token_id": ids})
    ours = convert(tools, source, tmp_path / "output")
    found = [ours[f"tokenizer.ggml.{kind}_token_id"] for kind in ("eos", "eot", "eom")]
    assert found == [ids[2], ids[0], ids[1]]
    assert reference(source, tmp_path / "reference.gguf")["tokenizer.ggml.eos_token_id"] == ids[2]


def test_contradictions_resolve_as_in_transformers(tools, tmp_path):
    """Two ids for a text, added tokens at the ids of others: transformers' ids win."""
    document = json.loads(train(PRE["gpt-2"]).to_str())
    end = document["added_tokens"][-1]["id"]

    def added(token, content, **more):
        return {**document["added_tokens"][0], "id": token, "content": content, **more}
    document["added_tokens"] += [added(end + 3, "the"), added(5, "<at five>"), added(5, "<user>", special=False)]
    document["model"]["vocab"].setdefault("the", len(document["model"]["vocab"]))
    source = checkpoint(
        tmp_path / "source", document,
        {"added_tokens_decoder": {
            str(end + 4): {"content": "<late>", "special": False}, "6": {"content": "<user>", "special": True}}})
    text = (source / "tokenizer.json").read_text()
    (source / "tokenizer.json").write_text(text.replace('"vocab": {', '"vocab": {"the": 7, "Ġthe": 8, ', 1))
    first = transformers.AutoTokenizer.from_pretrained(source)
    ours = convert(tools, source, tmp_path / "output")
    assert len(set(ours["tokenizer.ggml.tokens"])) == SIZE
    for token, index in first.get_vocab().items():
        assert ours["tokenizer.ggml.tokens"][index] == token
    same(ours, reference(source, tmp_path / "reference.gguf"), "gpt-2")


def test_an_unknown_pre_tokenizer_is_refused(tools, tmp_path):
    """A pre-tokenizer without a known name is refused, with a remedy."""
    source = checkpoint(
        tmp_path / "source", train(sequence(split(LLAMA3.replace("{1,3}", "{1,2}")), bytelevel(False))), {})
    result = tools.run("step3-convert", source, tmp_path / "output", "--to", "gguf")
    assert result.returncode == 65
    assert "tokenizer.json: pre_tokenizer" in result.stderr and "--tokenizer-pre NAME" in result.stderr
    assert not (tmp_path / "output").exists()
    ours = convert(tools, source, tmp_path / "output", "--tokenizer-pre", "kimi-k2")
    assert ours["tokenizer.ggml.pre"] == "kimi-k2"
    result = tools.run("step3-convert", source, tmp_path / "none", "--to", "gguf", "--tokenizer-pre", "kimik2")
    assert result.returncode == 64 and "did you mean kimi-k2?" in result.stderr
    result = tools.run("step3-convert", source, tmp_path / "none", "--to", "safetensors", "--tokenizer-pre", "qwen2")
    assert result.returncode == 64


def test_without_a_tokenizer_no_keys_are_written(tools, tmp_path):
    source = checkpoint(tmp_path / "source", None, files={"tekken.json": "{}"})
    assert convert(tools, source, tmp_path / "output") == {}


@pytest.mark.parametrize("name, text, key", [
    ("generation_config.json", '{"eos_token_id": 512}', "eos_token_id"),
    ("tokenizer_config.json", '{"chat_template": 1}', "chat_template"),
    ("chat_template.json", '{"chat_template": 1}', "chat_template"),
])
def test_errors_name_the_file(tools, tmp_path, name, text, key):
    source = checkpoint(tmp_path / "source", train(PRE["gpt-2"]), files={name: text})
    result = tools.run("step3-convert", source, tmp_path / "output", "--to", "gguf")
    assert result.returncode == 65
    assert f"{source / name}: {key}: " in result.stderr
