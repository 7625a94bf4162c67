"""llama.cpp's own converter, from the PyPI source package `llama_cpp_python`.

It is fetched once, by pip, into the build directory, and run unchanged but for four things. It knows tokenizers by what
they do to one text, and small ones for tests are none of them, so that the name is given. It holds the vision side to the
sizes of the released model by assertions, which `python -O` leaves out. And it is written for transformers 4.57, which does
not know these models, so that it reads config.json itself; newer ones would hand it another spelling, and look into that
file before they read a tokenizer. And for Qwen it looks for a tokenizer of sentencepiece first, with that package, and goes
on where there is none.
"""

import os
import pathlib
import subprocess
import sys
import tarfile

import pytest

VERSION = "0.3.36"
ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / ".build" / "interop"

RUNNER = """
import runpy, sys
import transformers
sys.path.insert(0, {gguf!r})
sys.path.insert(0, {root!r})
import conversion.base
from conversion.base import TextModel


def unknown(*arguments, **options):
    raise ValueError("transformers 4.57 does not know this model")


conversion.base.AutoConfig.from_pretrained = unknown
transformers.AutoTokenizer.from_pretrained = transformers.PreTrainedTokenizerFast.from_pretrained


def missing(*arguments):
    raise FileNotFoundError("tokenizer.model")


TextModel._set_vocab_sentencepiece = missing
TextModel.get_vocab_base_pre = lambda self, tokenizer: "deepseek-v3"
sys.argv = ["convert_hf_to_gguf.py"] + sys.argv[1:]
runpy.run_path({script!r}, run_name="__main__")
"""


def directory():
    """Where `convert_hf_to_gguf.py` is; the test is skipped if it is missing and cannot be fetched."""
    stated = os.environ.get("STEP3_LLAMA_CPP")
    if stated:
        return pathlib.Path(stated)
    root = CACHE / f"llama_cpp_python-{VERSION}" / "vendor" / "llama.cpp"
    if (root / "convert_hf_to_gguf.py").exists():
        return root
    CACHE.mkdir(parents=True, exist_ok=True)
    archive = CACHE / f"llama_cpp_python-{VERSION}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(CACHE)]
        command += ["--no-binary", "llama_cpp_python", f"llama_cpp_python=={VERSION}"]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"llama_cpp_python {VERSION} could not be fetched within ten minutes")
        if result.returncode != 0 or not archive.exists():
            pytest.skip(f"llama_cpp_python {VERSION} could not be fetched: {result.stderr[-300:]}")
    prefix = f"llama_cpp_python-{VERSION}/vendor/llama.cpp/"
    wanted = tuple(prefix + part for part in ("convert_hf_to_gguf.py", "conversion/", "gguf-py/"))
    with tarfile.open(archive) as contents:
        members = [member for member in contents.getmembers() if member.name.startswith(wanted)]
        contents.extractall(CACHE, members=members, filter="data")
    return root


def convert(source, output, outtype, *options):
    """Runs the converter; `output` becomes a GGUF file."""
    root = directory()
    runner = RUNNER.format(gguf=str(root / "gguf-py"), root=str(root), script=str(root / "convert_hf_to_gguf.py"))
    command = [sys.executable, "-O", "-c", runner, str(source), "--outfile", str(output), "--outtype", outtype]
    result = subprocess.run([*command, *options], capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return output
