"""Signatures and the package model_signing: each side accepts what the other writes, and neither accepts changes."""

import base64
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys

import model_signing
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from built_tools import FIXTURES

TINY = FIXTURES / "checkpoints" / "tiny"
CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


def write_key(path, key, form, password=None):
    encryption = (
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption())
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    public = path.with_suffix(".pub")
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return path, public


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """A private key and its public half for each curve, in both forms."""
    root = tmp_path_factory.mktemp("keys")
    forms = {
        "SEC 1": serialization.PrivateFormat.TraditionalOpenSSL, "PKCS #8": serialization.PrivateFormat.PKCS8}
    return {
        (curve, form): write_key(root / f"{curve}-{index}.pem", ec.generate_private_key(parameters), how)
        for curve, parameters in CURVES.items()
        for index, (form, how) in enumerate(forms.items())
    }


@pytest.fixture
def pair(keys):
    return keys["P-256", "SEC 1"]


def verified(model, signature, public, **options):
    """Whether model_signing accepts a signature, verified as by its own command."""
    ignored = [os.path.relpath(signature, model)] if model in signature.parents else []
    hashing = model_signing.hashing.Config().set_ignored_paths(paths=ignored).set_allow_symlinks(
        options.pop("allow_symlinks", False))
    config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public)
    try:
        config.set_hashing_config(hashing).verify(model, signature)
    except Exception:  # It raises exceptions of many types.
        return False
    return True


def signed(model, signature, private, shard_size=None):
    """Signs with model_signing."""
    hashing = model_signing.hashing.Config()
    if shard_size:
        hashing.use_shard_serialization(shard_size=shard_size)
    ignored = [os.path.relpath(signature, model)] if model in signature.parents else []
    hashing.set_ignored_paths(paths=ignored)
    model_signing.signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(hashing).sign(
        model, signature)


def payload(signature):
    return json.loads(base64.b64decode(json.loads(signature.read_text())["dsseEnvelope"]["payload"]))


def flip(path, place, bit=0):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


OUTPUTS = {
    "safetensors": ["--to", "safetensors"],
    "gguf": ["--to", "gguf", "--quantize", "Q8_0"],
    "partition": ["--to", "safetensors", "--partition", "afd", "--ffn-ep", "2"],
    "archive": ["--to", "gguf", "--archive"],
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_model_signing_accepts_ours(tools, tmp_path, pair, name):
    output = tmp_path / "output"
    tools.json("step3-convert", TINY, output, *OUTPUTS[name])
    (output / "README.md").write_text("mine\n")
    (output / ".gitattributes").write_text("*.gguf filter=lfs\n")
    hashing = ["--hash"] if name == "archive" else []
    if hashing:
        assert tools.run("step3-convert", "sign", output, "--key", pair[0]).returncode == 66
    summary = tools.json("step3-convert", "sign", output, "--key", pair[0], *hashing)
    signature = output / "model.sig"
    assert verified(output, signature, pair[1])
    # The same by its command, with its exit code.
    command = [sys.executable, "-m", "model_signing", "verify", "key", output, "--public_key", pair[1],
               "--signature", signature]
    assert subprocess.run(command, capture_output=True, check=False, timeout=120).returncode == 0
    # The same statement that model_signing makes of it.
    theirs = tmp_path / "theirs.sig"
    model_signing.signing.Config().use_elliptic_key_signer(private_key=pair[0]).set_hashing_config(
        model_signing.hashing.Config().set_ignored_paths(paths=["model.sig"])).sign(output, theirs)
    own, other = payload(signature), payload(theirs)
    for statement in (own, other):
        statement["predicate"]["serialization"]["ignore_paths"].sort()
    assert own == other and own["subject"][0]["digest"]["sha256"] == summary["rootDigest"]
    assert tools.json("step3-verify", "signature", output, "--public-key", pair[1])["ok"]


@pytest.mark.parametrize("form", ["SEC 1", "PKCS #8"])
@pytest.mark.parametrize("curve", CURVES)
def test_every_curve_and_form_of_key_is_accepted(tools, tmp_path, keys, curve, form):
    private, public = keys[curve, form]
    model = tmp_path / "model"
    model.mkdir()
    (model / "a").write_text("a")
    summary = tools.json("step3-convert", "sign", model, "--key", private, "--hash")
    assert summary["key"] == {"curve": curve, "sha256": hashlib.sha256(public.read_bytes()).hexdigest()}
    assert verified(model, model / "model.sig", public)
    assert tools.json("step3-verify", "signature", model, "--public-key", public)["ok"]
    signed(model, model / "theirs.sig", private)
    arguments = ["--signature", model / "theirs.sig"]
    (model / "model.sig").unlink()
    signed(model, model / "theirs.sig", private)
    assert tools.json("step3-verify", "signature", model, "--public-key", public, *arguments)["ok"]
    for other, (_, stranger) in keys.items():
        if other != (curve, form):
            result = tools.run("step3-verify", "signature", model, "--public-key", stranger, *arguments)
            assert result.returncode == 1, result.stderr


def test_keys_that_are_refused(tools, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "a").write_text("a")
    pkcs8, sec1 = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL
    curve = ec.generate_private_key(ec.SECP256R1())
    for number, (key, form, password, word) in enumerate([
        (curve, pkcs8, b"secret", "encrypted"), (curve, sec1, b"secret", "encrypted"),
        (rsa.generate_private_key(65537, 2048), pkcs8, None, "P-256"),
        (ec.generate_private_key(ec.SECP256K1()), pkcs8, None, "P-256"),
        (ec.generate_private_key(ec.SECP256K1()), sec1, None, "P-256"),
    ]):
        private, public = write_key(tmp_path / f"{number}.pem", key, form, password)
        result = tools.run("step3-convert", "sign", model, "--key", private, "--hash")
        assert result.returncode == 65 and word in result.stderr, result.stderr
        if key is not curve:
            result = tools.run("step3-verify", "signature", model, "--public-key", public)
            assert result.returncode == 65 and "P-256" in result.stderr, result.stderr
    assert not (model / "model.sig").exists()


@pytest.fixture
def output(tools, tmp_path):
    output = tmp_path / "output"
    tools.json("step3-convert", TINY, output, "--to", "gguf", "--quantize", "Q8_0")
    return output


def test_model_signing_refuses_what_was_changed(tools, tmp_path, pair, output):
    tools.json("step3-convert", "sign", output, "--key", pair[0])
    signature, random_ = output / "model.sig", random.Random(7)
    text = signature.read_text()
    # In the payload, the signature and the key's name: it ignores the other members.
    bundle = json.loads(text)["dsseEnvelope"]
    hint = json.loads(text)["verificationMaterial"]["publicKey"]["hint"]
    places = []
    for value, count in ((bundle["payload"], 40), (bundle["signatures"][0]["sig"], 30), (hint, 10)):
        start = text.index(value)
        # The last characters of base64 may hold unused bits.
        places += random_.sample(range(start, start + len(value) - 4), count)
    for place in places:
        bit = random_.randrange(8)
        flip(signature, place, bit)
        assert not verified(output, signature, pair[1]), place
        result = tools.run("step3-verify", "signature", output, "--public-key", pair[1])
        assert result.returncode in (1, 65), result.stdout
        flip(signature, place, bit)
    for path in sorted(path for path in output.iterdir() if path.name != "model.sig"):
        size = path.stat().st_size
        for place in (0, size - 1, random_.randrange(size)):
            flip(path, place)
            assert not verified(output, signature, pair[1]), path
            document = tools.run("step3-verify", "signature", output, "--public-key", pair[1], "--json")
            assert document.returncode == 1
            assert [finding["file"] for finding in json.loads(document.stdout)["findings"]] == [path.name]
            flip(path, place)
    assert verified(output, signature, pair[1])
    (output / "more.txt").write_text("more")
    assert not verified(output, signature, pair[1])
    result = tools.run("step3-verify", "signature", output, "--public-key", pair[1])
    assert result.returncode == 1 and "more.txt: is not signed" in result.stdout
    assert tools.json(
        "step3-verify", "signature", output, "--public-key", pair[1], "--ignore-unsigned-files")["ok"]


@pytest.mark.parametrize("shard_size", [None, 1000, 1_000_000_000])
def test_ours_accepts_theirs_and_refuses_what_was_changed(tools, tmp_path, pair, output, shard_size):
    signature = output / "model.sig"
    signed(output, signature, pair[0], shard_size)
    command = ["step3-verify", "signature", output, "--public-key", pair[1]]
    assert tools.json(*command)["ok"]
    random_ = random.Random(11)
    for place in random_.sample(range(signature.stat().st_size), 60):
        bit = random_.randrange(8)
        flip(signature, place, bit)
        assert tools.run(*command).returncode in (1, 65), place
        flip(signature, place, bit)
    for path in sorted(path for path in output.iterdir() if path.name != "model.sig"):
        for place in (0, random_.randrange(path.stat().st_size)):
            flip(path, place)
            result = tools.run(*command)
            assert result.returncode == 1 and f"FAILED: {path.name}: " in result.stdout
            flip(path, place)
    shutil.move(output / "config.json", tmp_path / "config.json")
    result = tools.run(*command)
    assert result.returncode == 1 and "config.json: is signed, but missing" in result.stdout


def test_other_signatures_are_refused_by_name(tools, tmp_path, pair, output):
    signature = output / "model.sig"
    for hashing, word in [
        (model_signing.hashing.Config().use_file_serialization(hashing_algorithm="blake2"), "blake2b"),
        (model_signing.hashing.Config().use_file_serialization(hashing_algorithm="blake3"), "blake3"),
    ]:
        model_signing.signing.Config().use_elliptic_key_signer(private_key=pair[0]).set_hashing_config(
            hashing).sign(output, signature)
        result = tools.run("step3-verify", "signature", output, "--public-key", pair[1])
        assert result.returncode == 65 and word in result.stderr, result.stderr
        signature.unlink()
    shutil.copy(FIXTURES / "signatures" / "certificate.sig", signature)
    result = tools.run("step3-verify", "signature", output, "--public-key", pair[1])
    assert result.returncode == 65 and "certificate" in result.stderr
    bundle = json.loads(signature.read_text())
    bundle["verificationMaterial"] = {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": []}
    signature.write_text(json.dumps(bundle))
    result = tools.run("step3-verify", "signature", output, "--public-key", pair[1])
    assert result.returncode == 65 and "model_signing verify sigstore" in result.stderr
    signature.unlink()
    assert tools.run("step3-verify", "signature", output, "--public-key", pair[1]).returncode == 66


def test_a_single_file_is_signed(tools, tmp_path, pair, output):
    model, signature = output / "model.gguf", output / "model.gguf.sig"
    summary = tools.json("step3-convert", "sign", model, "--key", pair[0])
    assert summary["bytesRead"] == 0 and summary["signature"] == str(signature)
    assert verified(model, signature, pair[1])
    assert tools.json("step3-verify", "signature", model, "--public-key", pair[1])["ok"]
    signature.unlink()
    signed(model, signature, pair[0])
    assert tools.json("step3-verify", "signature", model, "--public-key", pair[1])["ok"]
    flip(model, 1000)
    assert tools.run("step3-verify", "signature", model, "--public-key", pair[1]).returncode == 1


def test_symbolic_links_are_signed_on_request(tools, tmp_path, pair):
    model = tmp_path / "model"
    model.mkdir()
    (tmp_path / "blob").write_text("weights")
    (model / "a.bin").symlink_to(tmp_path / "blob")
    sign = ["step3-convert", "sign", model, "--key", pair[0], "--hash"]
    result = tools.run(*sign)
    assert result.returncode == 65 and "--allow-symlinks" in result.stderr
    tools.json(*sign, "--allow-symlinks")
    assert verified(model, model / "model.sig", pair[1], allow_symlinks=True)
    verify = ["step3-verify", "signature", model, "--public-key", pair[1]]
    assert tools.run(*verify).returncode == 65
    assert tools.json(*verify, "--allow-symlinks")["ok"]
    # The signature holds wherever the files lie.
    (model / "a.bin").unlink()
    shutil.move(tmp_path / "blob", model / "a.bin")
    assert tools.json(*verify)["ok"] and verified(model, model / "model.sig", pair[1])


def test_an_archive_of_a_signed_model_verifies(tools, tmp_path, pair, output):
    tools.json("step3-convert", "sign", output, "--key", pair[0])
    archive, restored = tmp_path / "archive", tmp_path / "restored"
    tools.json("step3-convert", "archive", output, archive)
    command = ["step3-verify", "signature", archive, "--public-key", pair[1]]
    assert tools.json(*command)["ok"]
    tools.json("step3-convert", "restore", archive, restored)
    assert verified(restored, restored / "model.sig", pair[1])
    flip(archive / "model.gguf.zst", 200_000)
    assert tools.run(*command).returncode == 1


def test_provenance_matches_the_files(tools, tmp_path, pair, output):
    statement = output / "provenance.sig"
    tools.json("step3-convert", "sign", output, "--key", pair[0], "--provenance", statement)
    assert verified(output, output / "model.sig", pair[1])
    command = ["step3-verify", "signature", output, "--public-key", pair[1], "--provenance", statement]
    assert tools.json(*command)["ok"]
    # Checked against the files without the toolkit: sources, outputs, plan, envelope.
    provenance = payload(statement)
    digest = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()  # noqa: E731
    definition = provenance["predicate"]["buildDefinition"]
    assert provenance["_type"] == "https://in-toto.io/Statement/v1"
    assert provenance["predicateType"] == "https://slsa.dev/provenance/v1"
    assert {"mediaType", "verificationMaterial", "dsseEnvelope"} == set(json.loads(statement.read_text()))
    for subject in provenance["subject"]:
        assert subject["digest"]["sha256"] == digest(output / subject["name"])
    sources = definition["resolvedDependencies"]
    assert {source["name"] for source in sources} == {path.name for path in TINY.glob("*.safetensors")}
    for source in sources:
        assert source["digest"]["sha256"] == digest(TINY / source["name"])
    assert definition["externalParameters"]["request"]["recipe"] == "Q8_0"
    manifest = json.loads((output / "manifest.json").read_text())
    plan = json.dumps(manifest["plan"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    details = provenance["predicate"]["runDetails"]
    assert details["byproducts"] == [
        {"name": "plan", "digest": {"sha256": hashlib.sha256(plan.encode()).hexdigest()}}]
    assert details["builder"]["version"] == {"step3-convert": manifest["tool"]}
    # Another conversion's provenance is refused.
    other = tmp_path / "other"
    tools.json("step3-convert", TINY, other, "--to", "gguf", "--quantize", "Q4_K_M")
    tools.json("step3-convert", "sign", other, "--key", pair[0], "--provenance", other / "provenance.sig")
    result = tools.run(*command[:-1], other / "provenance.sig")
    assert result.returncode == 1 and "the request is not the one in the manifest" in result.stdout


def test_all_checks_the_signature_too(tools, tmp_path, pair, output):
    command = ["step3-verify", "all", output, "--source", TINY, "--public-key", pair[1], "--json"]
    result = tools.run(*command)
    assert result.returncode == 66
    tools.json("step3-convert", "sign", output, "--key", pair[0])
    checks = {check["name"]: check for check in json.loads(tools.run(*command).stdout)["checks"]}
    assert list(checks) == ["engine", "checksums", "signature", "tensors", "logits"]
    assert checks["signature"]["ok"] and checks["signature"]["report"]["filesByManifest"] > 0
    flip(output / "model.sig", 400)
    result = tools.run(*command)
    assert result.returncode == 1
