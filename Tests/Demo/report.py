"""Formats what the tools said with --json, for Tests/Demo/run.sh.

Usage: report.py conversion|verification RECORD     one line about one result
       report.py damage FILE                        flips one bit in the middle of a file
       report.py table FOLDER                       all results as a table
"""

import json
import pathlib
import sys


def size(count):
    """Bytes in units of 1000, three figures."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5 or unit == "GB":
            break
        count /= 1000
    digits = 0 if unit == "B" or count >= 99.95 else 1 if count >= 9.995 else 2
    return f"{count:.{digits}f} {unit}"


def files(result):
    return f"{result['tensors']} tensors in {result['files']} file{'' if result['files'] == 1 else 's'}"


def rate(conversion):
    return size(conversion["sourceBytes"] / max(conversion["seconds"], 1e-9)) + "/s"


def ratio(conversion):
    return f"{100 * conversion['outputBytes'] / conversion['sourceBytes']:.1f} %"


def read(record, kind):
    return json.loads(pathlib.Path(f"{record}.{kind}.json").read_text())


def describe_conversion(record):
    result = read(record, "convert")
    print(
        f"  {size(result['sourceBytes'])} -> {size(result['outputBytes'])}, "
        f"{result['bitsPerWeight']:.2f} bits per weight, {files(result)}, "
        f"{result['seconds']:.1f} s, {rate(result)}, peak memory {size(result['peakMemoryBytes'])}"
    )
    for worst in result["worst"][:1]:
        print(f"  largest relative error: {100 * worst['relativeRMSE']:.3f} % in {worst['tensor']}")


def describe_verification(record):
    result = read(record, "verify")
    print(
        f"  {'every byte as it was written' if result['ok'] else 'NOT as it was written'}: "
        f"{files(result)}, {size(result['bytes'])}"
    )
    # A verification that compared nothing is none.
    return result["ok"] and result["manifest"] and result["tensors"] > 0 and not result["findings"]


def damage(path):
    data = bytearray(pathlib.Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    pathlib.Path(path).write_bytes(data)
    return True


def table(folder):
    header = ["conversion", "source", "output", "ratio", "bits/weight", "time", "rate", "peak memory", "verified"]
    rows = [header]
    passed = True
    for title in sorted(pathlib.Path(folder).glob("*.title")):
        record = title.with_suffix("")
        conversion, verification = read(record, "convert"), read(record, "verify")
        passed &= verification["ok"]
        rows.append([
            title.read_text().strip(),
            size(conversion["sourceBytes"]),
            size(conversion["outputBytes"]),
            ratio(conversion),
            f"{conversion['bitsPerWeight']:.2f}",
            f"{conversion['seconds']:.1f} s",
            rate(conversion),
            size(conversion["peakMemoryBytes"]),
            f"{verification['tensors']} tensors" if verification["ok"] else "FAILED",
        ])
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip())
    conversions = len(rows) - 2
    print(f"\n{conversions} conversions, every byte of each checked against its manifest" if passed else "\nFAILED")
    return passed and conversions > 0


if __name__ == "__main__":
    actions = {
        "conversion": lambda record: describe_conversion(record) is None,
        "verification": describe_verification,
        "damage": damage,
        "table": table,
    }
    sys.exit(0 if actions[sys.argv[1]](sys.argv[2]) else 1)
