"""Runs a tool with one failing system call, and reports what is left."""

import collections
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

from built_tools import TOOLS

SHIM = pathlib.Path(__file__).with_name("fault_shim.c")


@dataclasses.dataclass(frozen=True)
class Fault:
    """Makes the `number`-th call of that name on a path that contains `text` fail."""

    call: str
    what: object
    number: int
    text: str = ""

    def __str__(self):
        name = os.strerror(self.what) if isinstance(self.what, int) else self.what
        return f"{self.call} {self.number}{self.text and ' of ' + self.text}: {name}"


@dataclasses.dataclass
class Outcome:
    status: int
    output: str
    errors: str
    # Whether there was such a call, and which one.
    hit: str


class Injector:
    """The shim, compiled."""

    @staticmethod
    def compiler():
        return shutil.which("cc") or shutil.which("clang")

    @staticmethod
    def is_possible():
        return sys.platform == "linux" and Injector.compiler() is not None

    def __init__(self, directory):
        self.directory = directory
        self.library = directory / "fault_shim.so"
        subprocess.run([self.compiler(), "-O1", "-shared", "-fPIC", "-o", self.library, SHIM, "-ldl"], check=True)

    def run(self, fault, name, *arguments, cwd=None, timeout=120):
        with tempfile.TemporaryDirectory(dir=self.directory) as scratch:
            log = pathlib.Path(scratch, "log")
            result = subprocess.run(
                [str(TOOLS / name), *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False,
                env=self._environment(fault, log), cwd=cwd)
            return Outcome(result.returncode, result.stdout, result.stderr, log.read_text() if log.exists() else "")

    def pausing(self, fault, pause, name, *arguments, cwd=None):
        """Runs a tool that stops at a call, and continues it after calling `pause`."""
        fault = dataclasses.replace(fault, what="stop")
        with tempfile.TemporaryDirectory(dir=self.directory) as scratch:
            log = pathlib.Path(scratch, "log")
            process = subprocess.Popen(
                [str(TOOLS / name), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env=self._environment(fault, log), cwd=cwd)
            try:
                _, status = os.waitpid(process.pid, os.WUNTRACED)
                if os.WIFSTOPPED(status):
                    pause()
                    process.send_signal(signal.SIGCONT)
                else:
                    # The tool has finished without such a call.
                    process.returncode = os.waitstatus_to_exitcode(status)
                output, errors = process.communicate(timeout=120)
            finally:
                if process.returncode is None:
                    process.kill()
                    process.communicate()
            return Outcome(process.returncode, output, errors, log.read_text() if log.exists() else "")

    def _environment(self, fault, log):
        return os.environ | {
            "LD_PRELOAD": str(self.library), "STEP3_FAULT_LOG": str(log),
            "STEP3_FAULT": f"{fault.call}:{fault.what}:{fault.number}:{fault.text}"}

    def trace(self, name, *arguments, cwd=None):
        """The calls of a run without faults, as [(call, path)]."""
        return [(call, path) for call, _, path in self._trace(name, *arguments, cwd=cwd)]

    def calls(self, name, *arguments, cwd=None):
        """How often a run without faults makes each call, and how often with more than one byte."""
        calls, divisible = collections.Counter(), collections.Counter()
        for call, size, _ in self._trace(name, *arguments, cwd=cwd):
            calls[call] += 1
            divisible[call] += int(size) > 1
        return calls, +divisible

    def _trace(self, name, *arguments, cwd=None):
        with tempfile.TemporaryDirectory(dir=self.directory) as scratch:
            trace = pathlib.Path(scratch, "trace")
            environment = os.environ | {"LD_PRELOAD": str(self.library), "STEP3_FAULT_TRACE": str(trace)}
            result = subprocess.run(
                [str(TOOLS / name), *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False,
                env=environment, cwd=cwd)
            assert result.returncode == 0, result.stderr
            return [line.split(" ", 2) for line in trace.read_text().splitlines()]


def contents(directory):
    """The files below a directory, without those that an unfinished conversion keeps for itself."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*")) if path.is_file()}


def finished(directory):
    """The files of a finished output."""
    return {
        name: data for name, data in contents(directory).items()
        if not name.startswith(".step3-convert.")
        and not name.endswith(("step3-convert.journal", "step3-convert.journal.writing"))}
