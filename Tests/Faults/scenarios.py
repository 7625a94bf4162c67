"""The kinds of runs whose system calls are made to fail: the state before, the command, and the recovery."""

import dataclasses
import pathlib
import shutil

from built_tools import FIXTURES
from injection import Fault, contents, finished

TINY = FIXTURES / "checkpoints" / "tiny"
TWO = ["--threads", "2", "--progress", "none"]
GGUF = ["--to", "gguf", "--quantize", "Q8_0", "--max-shard-size", "2MB", *TWO]
OLD = ["--to", "gguf", "--quantize", "Q4_K", *TWO]
PARTITION = ["--to", "safetensors", "--quantize", "FP8_BLOCK", "--partition", "afd", "--ffn-ep", "2", *TWO]
ARCHIVE = ["--to", "archive", *TWO]
# A journal worth resuming from.
OFTEN = ["--sync-every", "1MiB"]
OUTPUT = "output"


@dataclasses.dataclass
class Scenario:
    name: str
    # The command, run in a directory that may contain OUTPUT.
    command: list
    # The recovery: commands run one after the other after a fault, to get the result.
    recovery: list
    # The directory before the run; empty if there is none.
    before: pathlib.Path
    result: dict = dataclasses.field(default_factory=dict)
    # The output that was finished before and may still be.
    old: dict = None
    # Whether `step3-verify checksums` applies to the output.
    has_manifest: bool = True
    # Whether the command only reads.
    is_check: bool = False

    def place(self, directory):
        """Copies the state before the run into a directory."""
        shutil.copytree(self.before, directory)


def make(tools, injector, root):
    """All scenarios, with their results without faults."""
    source = root / "source"
    shutil.copytree(TINY, source)
    work = root / "states"
    work.mkdir()

    def run(directory, *command):
        result = tools.run(*command, cwd=directory)
        assert result.returncode == 0, f"{command}: {result.stderr}"

    def state(name, *commands, fault=None):
        """A directory after some commands, the last of them with the fault, if any."""
        directory = work / name
        directory.mkdir()
        (directory / "beside.txt").write_text("not ours\n")
        for index, command in enumerate(commands):
            if fault and index == len(commands) - 1:
                outcome = injector.run(fault, *command, cwd=directory)
                assert outcome.hit and outcome.status != 0, outcome
            else:
                run(directory, *command)
        return directory

    convert = ["step3-convert", source, OUTPUT]
    nothing = state("nothing")
    plan = root / "plan.json"
    run(root, "step3-convert", "plan", source, *GGUF[:-4], "--output", plan)
    shares = [["step3-convert", "run", plan, OUTPUT, "--share", f"{k}/2", *TWO] for k in (1, 2)]
    seal = ["step3-convert", "run", plan, OUTPUT, "--seal", *TWO]
    half = Fault("pwrite", "kill", 60)
    archive = ["step3-convert", "archive", source, OUTPUT, *TWO]
    restore = ["step3-convert", "restore", root / "archive", OUTPUT, *TWO]
    run(root, "step3-convert", "archive", source, root / "archive", *TWO)

    done = state("done", convert + GGUF)
    old = state("old", convert + OLD)
    scenarios = [
        Scenario("conversion", convert + GGUF, [convert + GGUF + ["--resume"]], nothing),
        Scenario("partition", convert + PARTITION, [convert + PARTITION + ["--resume"]], nothing),
        Scenario(
            "resume", convert + GGUF + OFTEN + ["--resume"], [convert + GGUF + OFTEN + ["--resume"]],
            state("half", convert + GGUF + OFTEN, fault=half)),
        Scenario(
            "overwrite", convert + GGUF + ["--overwrite"], [convert + GGUF + ["--overwrite"]], old,
            old=finished(old / OUTPUT)),
        Scenario("to archive", convert + ARCHIVE, [convert + ARCHIVE + ["--resume"]], nothing),
        Scenario(
            "share", shares[1] + ["--resume"], [shares[1] + ["--resume"], seal], state("share", shares[0])),
        Scenario("seal", seal, [seal], state("shares", *shares)),
        Scenario("archive", archive, [archive + ["--resume"]], nothing, has_manifest=False),
        Scenario("restore", restore, [restore + ["--resume"]], nothing, has_manifest=False),
        Scenario("checksums", ["step3-verify", "checksums", OUTPUT], [], done, is_check=True),
    ]
    for scenario in scenarios:
        directory = root / f"result-{scenario.name}"
        scenario.place(directory)
        commands = [scenario.command] if scenario.name != "share" else [scenario.command, seal]
        for command in commands:
            run(directory, *command)
        scenario.result = contents(directory / OUTPUT)
    return source, scenarios
