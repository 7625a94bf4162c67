"""The tools, followed by llama.cpp: it must open every model that is written for an architecture that it knows."""

import importlib.util
import os
import pathlib

import llama_cpp_runtime
from built_tools import Tools


class OpenedTools(Tools):
    """Tools that keep links to the GGUF files they write until llama.cpp has opened them."""

    def __init__(self, directory):
        has_client = importlib.util.find_spec("xllamacpp") is not None
        self.directory = directory if has_client else None
        self.written = []

    def convert(self, source, output, *arguments):
        summary = super().convert(source, output, *arguments)
        # Prediction layers alone are not a model; test_family.py loads them beside one.
        if self.directory is not None and "--mtp" not in arguments:
            self.keep(pathlib.Path(output))
        return summary

    def keep(self, output):
        """Notes the GGUF files of an output, if it is a model of an architecture that llama.cpp knows."""
        if not (output / "model.gguf").exists() and not any(output.glob("*-00001-of-*.gguf")):
            return
        directory = self.directory / str(sum(1 for _ in self.directory.iterdir()))
        directory.mkdir()
        for file in output.glob("*.gguf"):
            os.link(file, directory / file.name)
        mmproj = directory / "mmproj.gguf"
        first = next((f for f in sorted(directory.glob("*.gguf")) if f != mmproj), None)
        if first is not None and architecture(first) in llama_cpp_runtime.ARCHITECTURES:
            self.written.append(f"{first}+{mmproj}" if mmproj.exists() else str(first))

    def open_all(self):
        """Has llama.cpp open what was written."""
        refused = llama_cpp_runtime.refused(self.written)
        assert not refused, f"llama.cpp does not load {refused}"


def architecture(path):
    """`general.architecture`, the first key of every file that llama.cpp or we write."""
    with open(path, "rb") as file:
        head = file.read(256)
    key = b"general.architecture"
    if key not in head:
        return None
    start = head.index(key) + len(key) + 4
    length = int.from_bytes(head[start : start + 8], "little")
    return head[start + 8 : start + 8 + length].decode()
