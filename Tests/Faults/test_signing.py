"""System calls that fail during signing: the signature is complete or absent."""

import errno
import os
import shutil

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from built_tools import FIXTURES
from injection import Fault, contents

TINY = FIXTURES / "checkpoints" / "tiny"


@pytest.fixture(scope="module")
def place(tools, tmp_path_factory):
    """A directory with an output, a key and its public half."""
    root = tmp_path_factory.mktemp("signed")
    tools.json("step3-convert", TINY, root / "output", "--to", "gguf")
    key = ec.generate_private_key(ec.SECP256R1())
    (root / "ec.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    (root / "pub.pem").write_bytes(key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return root


@pytest.mark.parametrize("before", ["nothing", "a signature"])
def test_a_signature_is_complete_or_absent(tools, injector, place, tmp_path, held, before):
    sign = ["step3-convert", "sign", "output", "--key", "ec.pem", "--provenance", "output/provenance.sig",
            "--threads", "1", "--progress", "none", "--overwrite"]
    verify = ["step3-verify", "signature", "output", "--public-key", "pub.pem"]
    start = tmp_path / "start"
    shutil.copytree(place, start)
    if before == "a signature":
        assert tools.run(*sign, cwd=start).returncode == 0
    shutil.copytree(start, tmp_path / "counted")
    calls, _ = injector.calls(*sign, cwd=tmp_path / "counted")
    tried = 0
    for call in ("create", "pwrite", "fsync", "rename", "fallocate", "open", "pread"):
        for what in (errno.EIO, errno.ENOSPC, "kill"):
            for number in range(calls.get(call, 0)):
                directory = tmp_path / f"{call}-{what}-{number}"
                shutil.copytree(start, directory)
                files = contents(directory / "output")
                result = injector.run(Fault(call, what, number), *sign, cwd=directory)
                if not result.hit:
                    continue
                tried += 1
                if what != "kill":
                    # A failed open may be harmless, and a failed stat may be worked around.
                    assert result.status in ((0, 74) if call == "open" else (74,)), (call, what, number, result)
                    assert result.status == 0 or os.strerror(what) in result.errors
                output = directory / "output"
                kept = {name: data for name, data in contents(output).items() if name in files}
                assert all(kept[name] == data for name, data in files.items() if not name.endswith(".sig"))
                for name in ("model.sig", "provenance.sig"):
                    # Complete: it is a valid signature by this key.
                    if (output / name).exists():
                        option = ["--provenance", f"output/{name}"] if name == "provenance.sig" else []
                        said = tools.run(*verify, *option, "--ignore-unsigned-files", cwd=directory)
                        assert said.returncode in (0, 1, 66), said.stderr
                        assert "its signature is invalid" not in said.stdout
                again = tools.run(*sign, cwd=directory)
                assert again.returncode == 0, again.stderr
                assert tools.run(*verify, "--provenance", "output/provenance.sig", cwd=directory).returncode == 0
                shutil.rmtree(directory)
    assert tried > 30
    held("signing, " + before, tried, tried)
