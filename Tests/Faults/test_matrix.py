"""Every system call of a run fails once, in every way: what is left is complete or marked unfinished.

`STEP3_FAULTS=all` tries every call with every fault (make torture), `STEP3_FAULTS=5000` as many, spread over all of them; without
it a sample is tried.
"""

import collections
import concurrent.futures
import errno
import os
import shutil
import signal

import pytest

import scenarios
from injection import Fault, contents, finished

ERRORS = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR]
# A signal may interrupt these while they wait, which is not a fault: they are called again.
WAITING = {"open", "create", "read", "pread", "write", "pwrite", "fallocate", "ftruncate", "flock"}
# If one of these fails, bytes or names are lost: no run with such a failure may succeed.
VITAL = {"create", "pwrite", "fsync", "fallocate", "mkdir", "rename", "pread"}
SAMPLE = 200


def wanted_statuses(fault, scenario):
    """The exit codes that a fault may lead to. A device error gives 74, unless the failed call was not needed."""
    if fault.what in ("kill", "after"):
        return {-signal.SIGKILL}
    if fault.what == "short" or fault.what == errno.EINTR and fault.call in WAITING:
        return {0}
    if fault.call in VITAL:
        return {74}
    return {0, 74}


def faults(calls, divisible):
    """All faults of a run, in an order in which neighbours are alike."""
    for call in sorted(calls):
        for what in [*ERRORS, "short", "kill", "after"]:
            if what == "after" and call not in ("rename", "create", "mkdir", "unlink", "fsync"):
                continue
            for number in range(divisible[call] if what == "short" else calls[call]):
                yield Fault(call, what, number)


@pytest.fixture(scope="session")
def cases(tools, injector, tmp_path_factory):
    """All scenarios and their possible faults."""
    root = tmp_path_factory.mktemp("matrix")
    source, made = scenarios.make(tools, injector, root)
    before = contents(source)
    result = []
    for scenario in made:
        directory = root / f"counted-{scenario.name}"
        scenario.place(directory)
        calls, divisible = injector.calls(*scenario.command, cwd=directory)
        result += [(scenario, fault) for fault in faults(calls, divisible)]
        shutil.rmtree(directory)
    yield result
    assert contents(source) == before, "the source was touched"


class Trial:
    """One fault in one scenario."""

    def __init__(self, tools, injector, directory, scenario, fault):
        self.tools, self.directory, self.scenario, self.fault = tools, directory, scenario, fault
        scenario.place(directory)
        self.outcome = injector.run(fault, *scenario.command, cwd=directory)

    def check(self):
        """Describes what is wrong; an empty text if nothing is."""
        try:
            self._check()
        except AssertionError as failure:
            return f"{self.scenario.name}, {self.fault} ({self.outcome.hit.strip()}): {failure}\n{self.outcome.errors[-600:]}"
        return ""

    def _check(self):
        scenario, outcome, output = self.scenario, self.outcome, self.directory / scenarios.OUTPUT
        # Depending on threads, some calls occur in one run and not in another.
        wanted = wanted_statuses(self.fault, scenario) if outcome.hit else {0}
        assert outcome.status in wanted, f"ended with {outcome.status}, not {wanted}\n{outcome.output[-600:]}"
        if outcome.status == 74:
            # A check reports its findings on standard output.
            said = outcome.errors + (outcome.output if scenario.is_check else "")
            assert os.strerror(self.fault.what) in said, "does not say what failed"
        self._check_beside()
        if scenario.is_check:
            assert contents(output) == scenario.result, "a check has changed something"
            return
        if outcome.status == 0 and scenario.name != "share":
            assert contents(output) == scenario.result, "ended well with other files: " + self._difference()
            return
        self._check_look()
        for command in scenario.recovery:
            again = self.tools.run(*command, cwd=self.directory)
            assert again.returncode == 0, f"{command[:2]} afterwards: {again.returncode} {again.stderr[-600:]}"
        self._check_beside()
        assert contents(output) == scenario.result, "the second run gives other files: " + self._difference()

    def _difference(self):
        now, wanted = contents(self.directory / scenarios.OUTPUT), self.scenario.result
        return str(sorted(name for name in now.keys() | wanted.keys() if now.get(name) != wanted.get(name)))

    def _check_beside(self):
        names = {path.name for path in self.directory.iterdir()}
        assert names <= {"beside.txt", scenarios.OUTPUT}, f"beside the output there is {names}"
        assert (self.directory / "beside.txt").read_text() == "not ours\n"

    def _check_look(self):
        """An incomplete output does not look complete, neither here nor to the tools."""
        output = self.directory / scenarios.OUTPUT
        if not output.exists() or not any(output.iterdir()):
            return
        names = {path.name for path in output.iterdir()}
        if names == {"step3-convert.journal.writing"}:
            # The first thing created, before it gets its name: an empty directory.
            assert self.tools.run("step3-inspect", "list", output).returncode == 66
            return
        whole = [files for files in (self.scenario.result, self.scenario.old) if files is not None]
        if "manifest.json" in names or "step3-convert.journal" not in names:
            assert finished(output) in whole, f"looks finished and is not: {sorted(names)}"
        elif self.scenario.has_manifest:
            check = self.tools.run("step3-verify", "checksums", output)
            assert check.returncode == 65, f"checksums ends with {check.returncode}: {check.stdout} {check.stderr}"
        else:
            check = self.tools.run("step3-inspect", "list", output)
            assert check.returncode == 65, f"list ends with {check.returncode}: {check.stderr}"


def test_every_call_fails_once(tools, injector, cases, tmp_path, held):
    wanted = os.environ.get("STEP3_FAULTS", str(SAMPLE))
    names = os.environ.get("STEP3_FAULT_SCENARIOS")
    chosen = [(s, f) for s, f in cases if names is None or s.name in names.split(",")]
    if wanted != "all":
        # Evenly over a list in which neighbours are alike, with a stride that divides no group evenly.
        chosen = chosen[:: max(1, len(chosen) // int(wanted)) | 1]
    tried, kept = collections.Counter(), collections.Counter()
    failures = []

    def attempt(index, scenario, fault):
        directory = tmp_path / str(index)
        try:
            trial = Trial(tools, injector, directory, scenario, fault)
            return fault, bool(trial.outcome.hit), trial.check()
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for fault, hit, failure in pool.map(lambda each: attempt(each[0], *each[1]), enumerate(chosen)):
            # Depending on threads, some calls occur in one run and not in another.
            if not hit and not failure:
                continue
            kind = fault.what if isinstance(fault.what, str) else errno.errorcode[fault.what]
            tried[kind] += 1
            kept[kind] += not failure
            if failure:
                failures.append(failure)
                print(failure, flush=True)
    for kind in sorted(tried):
        held(f"a call: {kind}", tried[kind], kept[kind], "of a conversion, resumed, overwritten, archived, shared, checked")
    assert not failures, f"{len(failures)} of {sum(tried.values())}:\n\n" + "\n\n".join(failures[:60])
    assert sum(tried.values()) > 0.8 * len(chosen)
