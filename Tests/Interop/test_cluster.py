"""The scripts of Manuals/cluster.md: checked by the usual linters, and run with the shares' variables."""

import os
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from conftest import FIXTURES, ROOT, TOOLS

MANUAL = (ROOT / "Manuals/cluster.md").read_text()


def block(language):
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", MANUAL, re.M | re.S)
    return text


def contents(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


def convert(tools, *arguments):
    result = tools.run("step3-convert", *arguments)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def planned(tools, tmp_path_factory):
    """A plan for a source in several files, and the output of a single run."""
    directory = tmp_path_factory.mktemp("cluster")
    source, plan, whole = directory / "source", directory / "plan.json", directory / "whole"
    convert(tools, FIXTURES / "checkpoints/tiny", source, "--to", "safetensors", "--max-shard-size", "150KB")
    assert len(list(source.glob("*.safetensors"))) > 4
    convert(tools, "plan", source, "--to", "gguf", "--quantize", "Q4_K", "--output", plan)
    convert(tools, "run", plan, whole)
    return directory, plan, contents(whole)


def environment(**values):
    return {**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}", **values}


def test_slurm_script(tools, planned):
    directory, plan, whole = planned
    script = directory / "share.sh"
    script.write_text(block("sh"))
    subprocess.run([Path(sys.executable).with_name("shellcheck"), script], check=True)
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", script.read_text(), re.M))
    first, last = map(int, options["array"].split("-"))
    assert first == 1
    output = directory / "slurm"
    running = [
        subprocess.Popen(
            ["sh", script],
            env=environment(
                PLAN=str(plan), OUTPUT=str(output), SLURM_ARRAY_TASK_ID=str(k), SLURM_ARRAY_TASK_COUNT=str(last)
            ),
        )
        for k in range(first, last + 1)
    ]
    assert [process.wait() for process in running] == [0] * last
    convert(tools, "run", plan, output, "--seal")
    assert contents(output) == whole


def test_kubernetes_job(planned):
    directory, plan, whole = planned
    job = yaml.safe_load(block("yaml"))
    kubernetes_validate.validate(job, "1.33", strict=True)
    assert job["spec"]["completions"] == job["spec"]["parallelism"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (argument,) = container["args"]
    assert f'/{job["spec"]["completions"]}"' in argument
    output = directory / "kubernetes"
    argument = argument.replace("/data/plan.json", str(plan)).replace("/data/step3-q4", str(output))
    indices = range(job["spec"]["completions"])
    running = [
        subprocess.Popen([*container["command"], argument], env=environment(JOB_COMPLETION_INDEX=str(k)))
        for k in indices
    ]
    assert [process.wait() for process in running] == [0] * len(indices)
    assert contents(output) == whole


def test_loop_over_hosts(planned):
    directory, plan, whole = planned
    loop = MANUAL[MANUAL.index("    for k in 1 2 3 4") :]
    output = directory / "hosts"
    loop = loop.replace("/data/plan.json", str(plan)).replace("/data/step3-q4", str(output))
    # As ssh would: drop the host and run the rest.
    subprocess.run(["sh", "-euc", "ssh() { shift; \"$@\"; }\n" + loop], env=environment(), check=True)
    assert contents(output) == whole
