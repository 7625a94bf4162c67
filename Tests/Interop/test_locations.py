"""Sources in every location and form: a directory, an archive, files compressed by zstd, a hub. All
three tools see the same model, and a conversion gives the same bytes."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import time
import urllib.request

import pytest
import zstandard

from conftest import FIXTURES, ROOT, TOOLS

SERVER = pathlib.Path(os.environ.get("HUB_SERVER", ROOT / "Tests/HubServer/.build/release/hub-server"))
TINY = FIXTURES / "checkpoints/tiny"
OPTIONS = ("--to", "gguf", "--quantize", "Q4_K")


def contents(directory):
    """Every file below a directory, by relative path."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def publish(source, model):
    """Copies a directory to where the server finds it, with the digests that a hub publishes."""
    shutil.copytree(source, model, ignore=shutil.ignore_patterns("reference"))
    (model / ".sha256").mkdir()
    for path in model.iterdir():
        if path.is_file():
            (model / ".sha256" / path.name).write_text(hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope="module")
def converted(tools, tmp_path_factory):
    """The conversion of the directory itself."""
    output = tmp_path_factory.mktemp("locations") / "direct"
    assert tools.run("step3-convert", TINY, output, *OPTIONS).returncode == 0
    return output


@pytest.fixture(scope="module")
def archive(tools, tmp_path_factory):
    output = tmp_path_factory.mktemp("archives") / "tiny"
    assert tools.run("step3-convert", "archive", TINY, output).returncode == 0
    return output


@pytest.fixture(scope="module")
def hub(tmp_path_factory, archive):
    """A hub with the model and its archive: returns the address of a session with the given faults."""
    if not SERVER.exists() and "HUB_SERVER" not in os.environ:
        pytest.skip("swift build --package-path Tests/HubServer -c release")
    root = tmp_path_factory.mktemp("hub")
    publish(TINY, root / "stepfun/tiny")
    publish(archive, root / "stepfun/archive")
    publish(TINY, root / "stepfun/damaged")
    (root / "stepfun/damaged/.sha256/model-00002-of-00004.safetensors").write_text("0" * 64)
    process = subprocess.Popen([SERVER, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    port = process.stdout.readline().split()[0]
    yield f"http://127.0.0.1:{port}"
    process.stdin.close()
    assert process.wait(timeout=20) == 0


@pytest.fixture
def run(hub, tmp_path):
    """Runs a tool with the server as its hub, in a session with the given settings."""
    counter = iter(range(1000))

    def run(settings, name, *arguments):
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "http"))}
        run.endpoint = environment["HF_ENDPOINT"] = f"{hub}/s/{tmp_path.name}{next(counter)}{settings}"
        environment["HF_HOME"] = str(tmp_path / "home")
        command = [str(TOOLS / name), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run


def same_model(tools, source, converted, output):
    listing = tools.json("step3-inspect", "list", source)
    assert listing["tensors"] == tools.json("step3-inspect", "list", TINY)["tensors"]
    difference = tools.run("step3-inspect", "diff", source, TINY, "--exact")
    assert difference.returncode == 0 and "88 identical" in difference.stdout
    result = tools.run("step3-convert", source, output, *OPTIONS)
    assert result.returncode == 0, result.stderr
    assert contents(output) == contents(converted)


def test_an_archive_is_a_source(tools, archive, converted, tmp_path):
    assert not list(archive.glob("*.safetensors"))
    same_model(tools, archive, converted, tmp_path / "output")
    assert tools.run("step3-verify", "tensors", converted, "--source", archive).returncode == 0
    logits = ("--prompt", "The lighthouse keeper", "--max-abs", "0")
    assert tools.run("step3-verify", "logits", archive, "--reference", TINY, *logits).returncode == 0
    one = archive / "model-00002-of-00004.safetensors.zst"
    shard = tools.json("step3-inspect", "list", TINY / one.name.removesuffix(".zst"))
    assert tools.json("step3-inspect", "list", one)["tensors"] == shard["tensors"]


def test_an_archived_output_is_a_source(tools, converted, tmp_path):
    archive = tmp_path / "archive"
    assert tools.run("step3-convert", "archive", converted, archive).returncode == 0
    assert tools.json("step3-verify", "checksums", archive)["ok"]
    assert tools.run("step3-verify", "tensors", archive, "--source", TINY).returncode == 0
    # A changed byte in a tensor's frame is found and its file named, and the rest can be read.
    damaged = archive / "model.gguf.zst"
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 16
    damaged.write_bytes(data)
    result = tools.run("step3-verify", "checksums", archive, "--json")
    assert result.returncode == 1
    findings = json.loads(result.stdout)["findings"]
    assert len(findings) == 1 and findings[0]["tensor"] and findings[0]["file"] == "model.gguf"


@pytest.mark.parametrize("frames", ["one", "many", "unsized"])
def test_files_compressed_by_zstd_are_sources(tools, converted, tmp_path, frames):
    source = tmp_path / "source"
    source.mkdir()
    for path in TINY.iterdir():
        if path.suffix == ".json":
            shutil.copy(path, source)
        elif path.suffix == ".safetensors":
            data = path.read_bytes()
            compressor = zstandard.ZstdCompressor(write_content_size=frames != "unsized")
            if frames == "unsized":
                stream = compressor.compressobj()
                compressed = stream.compress(data) + stream.flush()
            else:
                size = len(data) if frames == "one" else 100_000
                pieces = [data[start : start + size] for start in range(0, len(data), size)]
                compressed = b"".join(map(compressor.compress, pieces))
            (source / f"{path.name}.zst").write_bytes(compressed)
    same_model(tools, source, converted, tmp_path / "output")


def test_plain_files_take_precedence_over_archived_ones(tools, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(TINY, source)
    (source / "model-00001-of-00004.safetensors.zst").write_bytes(b"not zstd at all")
    assert len(tools.list(source)) == 88
    (source / "archive.json").write_text("{}")
    assert len(tools.list(source)) == 88


FAULTS = ["", "~faults=drop:1000", "~faults=status:503", "~faults=expired", "~page=2~latency=5"]


@pytest.mark.parametrize("name,settings", [("tiny", faults) for faults in FAULTS] + [("archive", FAULTS[1])])
def test_a_hub_is_a_source(run, converted, tmp_path, settings, name):
    output = tmp_path / "output"
    result = run(settings, "step3-convert", f"hf://stepfun/{name}", output, *OPTIONS)
    assert result.returncode == 0, result.stderr
    assert contents(output) == contents(converted)
    # Nothing of the source has been written to disk.
    assert [path.name for path in tmp_path.iterdir()] == ["output"]
    listing = run(settings, "step3-inspect", "list", f"hf://stepfun/{name}", "--json")
    assert len(json.loads(listing.stdout)["tensors"]) == 88


def test_an_output_is_verified_against_a_hub(run, converted):
    proof = run("", "step3-verify", "tensors", converted, "--source", "hf://stepfun/tiny")
    assert proof.returncode == 0, proof.stderr


def test_a_wrong_published_digest_is_found(run, tmp_path):
    result = run("", "step3-convert", "hf://stepfun/damaged", tmp_path / "output", *OPTIONS)
    assert result.returncode == 65
    assert "SHA-256" in result.stderr and "model-00002-of-00004.safetensors" in result.stderr
    assert not (tmp_path / "output/manifest.json").exists()


def test_a_stored_plan_pins_the_commit(run, converted, tmp_path):
    plan, output = tmp_path / "plan.json", tmp_path / "output"
    assert run("", "step3-convert", "plan", "hf://stepfun/tiny", *OPTIONS, "--output", plan).returncode == 0
    assert json.loads(plan.read_text())["source"].startswith("hf://stepfun/tiny@0123456789abcdef")
    result = run("", "step3-convert", "run", plan, output)
    assert result.returncode == 0, result.stderr
    assert contents(output) == contents(converted)


def fetched(hub, session):
    """The number of bytes of each weight file that the server has sent."""
    with urllib.request.urlopen(f"{hub}/s/{session}/_log") as answer:
        return answer.read().decode()


def test_resuming_fetches_nothing_twice(run, hub, converted, tmp_path):
    """A conversion killed when some files are done continues without fetching them again."""
    output = tmp_path / "output"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "http"))}
    environment["HF_HOME"] = str(tmp_path / "home")
    command = [TOOLS / "step3-convert", "hf://stepfun/tiny", output, *OPTIONS, "--sync-every", "1", "--threads", "1"]
    # The rate limit delays the last files, from the third one on.
    environment["HF_ENDPOINT"] = f"{hub}/s/slow{tmp_path.name}~rate=1500000"
    first = subprocess.Popen([*command, "--progress", "none"], env=environment)
    deadline = time.monotonic() + 60
    journal = output / "step3-convert.journal"
    # A frame of kind 5 says that a source file is done.
    while first.poll() is None and time.monotonic() < deadline:
        if journal.exists() and kinds(journal.read_bytes()).count(5) >= 1:
            break
        time.sleep(0.01)
    first.kill()
    first.wait()
    done = kinds(journal.read_bytes()).count(5)
    assert 1 <= done <= 4
    session = f"again{tmp_path.name}"
    environment["HF_ENDPOINT"] = f"{hub}/s/{session}"
    result = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert contents(output) == contents(converted)
    log = fetched(hub, session)
    names = [f"model-0000{number}-of-00004.safetensors" for number in range(1, 5)]
    # Of a finished file only the header is requested: one request for its start.
    requests = {name: sum(name in line and "bytes=" in line for line in log.splitlines()) for name in names}
    assert sum(count <= 1 for count in requests.values()) >= done, (requests, done, log)


def kinds(journal):
    """The kinds of a journal's intact frames."""
    position, found = journal.index(b"\n") + 1, []
    while position + 12 < len(journal):
        length = int.from_bytes(journal[position : position + 4], "little")
        if position + 12 + length > len(journal):
            break
        found.append(journal[position + 12])
        position += 12 + length
    return found


def test_the_source_can_be_cached(run, tools, converted, tmp_path):
    output, cache = tmp_path / "output", tmp_path / "cache"
    result = run("", "step3-convert", "hf://stepfun/tiny", output, *OPTIONS, "--keep-source", cache)
    assert result.returncode == 0, result.stderr
    assert contents(output) == contents(converted)
    snapshots = cache / "models--stepfun--tiny/snapshots"
    (snapshot,) = snapshots.iterdir()
    for path in TINY.iterdir():
        if path.is_file():
            assert (snapshot / path.name).read_bytes() == path.read_bytes()
    assert len(tools.list(cache / "models--stepfun--tiny")) == 88
    local = run("", "step3-convert", TINY, tmp_path / "other", *OPTIONS, "--keep-source", cache)
    assert local.returncode == 64 and "is a local path" in local.stderr


def test_missing_sources_are_reported(run, tmp_path):
    for address, code in [("hf://stepfun/none", 66), ("hf://stepfun/tiny@none", 66), ("hf://a/b/../c", 64), ("ftp://a/b", 64)]:
        result = run("", "step3-inspect", "list", address)
        assert result.returncode == code, (address, result.stderr)
        assert address.split("//")[1].split("/")[0] in result.stderr


def test_the_timeout_is_an_option(tools, run):
    """A silent server is an error after the time that the user sets, neither sooner nor never."""
    begun = time.monotonic()
    result = run(
        "~faults=" + ",".join(["stall:0"] * 40), "step3-inspect", "list", "hf://stepfun/tiny", "--stall-limit", "1",
        "--server-attempts", "1",
    )
    assert result.returncode == 74 and "no data arrived for 1.0 seconds" in result.stderr, result.stderr
    assert time.monotonic() - begun < 30
    for options in (["--stall-limit", "0"], ["--server-attempts", "101"]):
        result = tools.run("step3-inspect", "list", TINY, *options)
        assert result.returncode == 64 and options[0] in result.stderr


def test_many_small_reads_are_few_requests(hub, converted, run):
    """Comparing with a remote model reads it row by row but requests it in larger pieces."""
    result = run("-compare", "step3-verify", "tensors", converted, "--source", "hf://stepfun/tiny", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["ok"]
    with urllib.request.urlopen(f"{run.endpoint}/_log") as answer:
        asked = answer.read().decode().splitlines()
    assert 5 < len(asked) < 150, f"{len(asked)} requests"
