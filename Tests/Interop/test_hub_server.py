"""The mock hub of the remote-source tests, against the hub's own client: if that client accepts it as a
hub is one as far as addresses, lists, redirections and fields go."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("HUB_SERVER", ROOT / "Tests/HubServer/.build/release/hub-server"))

CLIENT = """
import json
from huggingface_hub import HfApi, hf_hub_download
api = HfApi()
information = api.model_info("owner/model", revision="main")
tree = list(api.list_repo_tree("owner/model", revision=information.sha))
print(json.dumps({
    "commit": information.sha,
    "names": sorted(sibling.rfilename for sibling in information.siblings),
    "tree": sorted((entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None) for entry in tree),
    "files": [hf_hub_download("owner/model", name) for name in ("model.safetensors", "config.json")],
}))
"""


@pytest.fixture
def server(tmp_path):
    if not PROGRAM.exists() and "HUB_SERVER" not in os.environ:
        pytest.skip("swift build --package-path Tests/HubServer -c release")
    model = tmp_path / "root/owner/model"
    (model / ".sha256").mkdir(parents=True)
    weights = bytes(range(256)) * 4000
    (model / "model.safetensors").write_bytes(weights)
    (model / ".sha256/model.safetensors").write_text(hashlib.sha256(weights).hexdigest())
    (model / "config.json").write_text('{"model_type": "x"}')
    process = subprocess.Popen(
        [PROGRAM, tmp_path / "root"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    port = process.stdout.readline().split()[0]
    yield f"http://127.0.0.1:{port}/s/client~page=1", model
    process.stdin.close()
    assert process.wait(timeout=20) == 0


def test_the_hubs_own_client_accepts_the_server(server, tmp_path):
    endpoint, model = server
    home = tmp_path / "home"
    environment = os.environ | {
        "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    environment.pop("HF_HUB_CACHE", None)
    result = subprocess.run(
        [sys.executable, "-c", CLIENT], env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout.splitlines()[-1])
    weights = (model / "model.safetensors").read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    assert answer["names"] == ["config.json", "model.safetensors"]
    assert answer["tree"] == [["config.json", 19, None], ["model.safetensors", len(weights), digest]]
    assert pathlib.Path(answer["files"][0]).read_bytes() == weights
    assert pathlib.Path(answer["files"][1]).read_bytes() == (model / "config.json").read_bytes()
    # The client names the cached file by its presumed SHA-256, and pins the commit.
    cached = home / "hub/models--owner--model"
    assert (cached / "blobs" / digest).exists()
    assert (cached / "refs/main").read_text() == answer["commit"]
