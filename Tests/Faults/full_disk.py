"""Runs commands on a file system with a given number of bytes left, in a mount namespace of its own.

    unshare -m python full_disk.py SIZE TOOL DIRECTORY < cases.json > results.json

A case is [bytes left, command, recovery]: the command runs with that much space, the recovery once there is space again. DIRECTORY
gets a file system in memory, which goes with this process. A result says how both ended, which files were there after the command, and
which in the end, by digest.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys


def digests(directory):
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*")) if path.is_file()}


def fill(ballast, left):
    """Fills the file system up to `left` bytes, to the page."""
    with open(ballast, "wb") as file:
        try:
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        except OSError:
            pass
    stat = os.statvfs(ballast.parent)
    size = os.path.getsize(ballast) + stat.f_bavail * stat.f_frsize
    with open(ballast, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, size - left))
        file.truncate(max(0, size - left))


def main():
    size, tool, directory = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(directory)], check=True)
    output, ballast = directory / "output", directory / "ballast"
    results = []

    def run(command):
        result = subprocess.run([tool, *command], capture_output=True, text=True, timeout=120, check=False, cwd=directory)
        return {"status": result.returncode, "errors": result.stderr}

    for left, command, recovery in json.load(sys.stdin):
        fill(ballast, left)
        first = run(command)
        between = digests(output) if output.exists() else {}
        ballast.unlink()
        second = run(recovery)
        results.append({"left": left, "first": first, "between": between, "second": second, "end": digests(output)})
        subprocess.run(["rm", "-rf", str(output)], check=True)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
