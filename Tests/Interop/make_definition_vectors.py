"""Writes Fixtures/golden/definitions: weights in every supported form, and their values by the forms' definitions.

    python Tests/Interop/make_definition_vectors.py Fixtures/golden/definitions

`forms.safetensors` has, for each form, the tensors of a module of that name and `values` in F32; `settings.json` the
`quantization_config` of each. The values are those of independent_decoder.py, which test_independent_decoder.py compares with
compressed-tensors and to vectors worked out by hand."""

import json
import pathlib
import sys

import numpy

from case_inputs import TYPE_NAMES, write_safetensors
from independent_decoder import decode
from stored_forms import FORMS

SHAPE = (2, 16, 64)


def vectors():
    """The tensors of all forms by name, and the settings of each form."""
    random = numpy.random.default_rng(20261127)
    tensors, settings = {}, {}
    for form, (make, config) in FORMS.items():
        parts = {f"{form}.{suffix}": values for suffix, values in make(random, SHAPE).items()}
        stored = {name: (TYPE_NAMES[values.dtype], values.shape, values.tobytes()) for name, values in parts.items()}
        meaning = decode(stored, {"quantization_config": config})
        tensors |= parts
        tensors[f"{form}.values"] = meaning.weights[f"{form}.weight"].values.astype(numpy.float32)
        settings[form] = config
    return tensors, settings


if __name__ == "__main__":
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    tensors, settings = vectors()
    write_safetensors(directory / "forms.safetensors", tensors, {"format": "pt"})
    (directory / "settings.json").write_text(json.dumps(settings, indent=1) + "\n")
