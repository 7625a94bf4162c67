"""Formats the tools' --json output, for Tests/Demo/run.sh.

Usage: report.py conversion|verification|tensors|logits RECORD     one line about one result
       report.py damage FILE                        flips one bit in the middle of a file
       report.py misplace FOLDER                    reverses the rows of one expert
       report.py tokens FILE                        writes 256 random tokens
       report.py table FOLDER                       all results as a table
"""

import json
import pathlib
import random
import struct
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
    # A verification that compared nothing proves nothing.
    return result["ok"] and result["manifest"] and result["tensors"] > 0 and not result["findings"]


def describe_tensors(record):
    result = read(record, "tensors")
    worst = max(result["formats"], key=lambda entry: entry["worstRelativeRMSE"])
    print(
        f"  {'every value as close as its format allows' if result['ok'] else 'values OUT OF LINE'}: "
        f"{result['elements']:,} elements, relative RMSE {100 * worst['relativeRMSE']:.3f} % in {worst['to']}"
    )
    return result["ok"] and result["elements"] > 0


def describe_logits(record):
    result = read(record, "logits")
    checks = ", ".join(f"{check['name']} {check['limit']:g}" for check in result["checks"])
    print(
        f"  {'within' if result['ok'] else 'NOT within'} {checks}: KL divergence {result['kl']['mean']:.2g}, "
        f"same token {100 * result['top1Agreement']:.0f} %, largest difference {result['maxAbsError']:.2g}, "
        f"{size(result['bytesRead'])} read in {result['seconds']:.1f} s, peak memory {size(result['peakMemoryBytes'])}"
    )
    other = result["compared"]
    if other:
        error = other["klDifference"]["standardError"]
        print(
            f"  KL divergence before and after, on held-out tokens: {other['kl']['mean']:.5f} -> {result['kl']['mean']:.5f} "
            f"({100 * (result['kl']['mean'] / other['kl']['mean'] - 1):+.0f} %, standard error {error:.5f})"
        )
    return result["ok"] and result["tokens"] > 0


def misplace(folder):
    """Reverses the rows of an expert's up projection in a safetensors checkpoint."""
    name = "model.layers.1.moe.up_proj.weight"
    for path in pathlib.Path(folder).glob("*.safetensors"):
        data = bytearray(path.read_bytes())
        length = struct.unpack("<Q", data[:8])[0]
        tensor = json.loads(data[8:8 + length]).get(name)
        if tensor is None:
            continue
        start, end = (8 + length + offset for offset in tensor["data_offsets"])
        experts, rows, _ = tensor["shape"]
        expert = (end - start) // experts
        row = expert // rows
        first = start + 3 * expert
        turned = [data[first + index * row:first + (index + 1) * row] for index in reversed(range(rows))]
        data[first:first + expert] = b"".join(turned)
        path.write_bytes(data)
        return True
    return False


def tokens(path):
    random.seed(1)
    pathlib.Path(path).write_text(json.dumps([random.randrange(8192) for _ in range(256)]))
    return True


def damage(path):
    data = bytearray(pathlib.Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    pathlib.Path(path).write_bytes(data)
    return True


def table(folder):
    header = ["conversion", "source", "output", "ratio", "bits/weight", "time", "rate", "peak memory", "bytes", "values", "KL", "top-1"]
    rows = [header]
    passed = True
    for title in sorted(pathlib.Path(folder).glob("*.title")):
        record = title.with_suffix("")
        conversion, verification = read(record, "convert"), read(record, "verify")
        tensors = read(record, "tensors")
        logits = read(record, "logits") if pathlib.Path(f"{record}.logits.json").exists() else None
        passed &= verification["ok"] and tensors["ok"] and (logits is None or logits["ok"])
        rows.append([
            title.read_text().strip(),
            size(conversion["sourceBytes"]),
            size(conversion["outputBytes"]),
            ratio(conversion),
            f"{conversion['bitsPerWeight']:.2f}",
            f"{conversion['seconds']:.1f} s",
            rate(conversion),
            size(conversion["peakMemoryBytes"]),
            "proven" if verification["ok"] else "FAILED",
            "in line" if tensors["ok"] else "FAILED",
            f"{logits['kl']['mean']:.2g}" if logits else "-",
            f"{100 * logits['top1Agreement']:.0f} %" if logits else "-",
        ])
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip())
    conversions = len(rows) - 2
    print(
        f"\n{conversions} conversions: every byte checked against its manifest, every value against its source, "
        "every model against the one it was made from"
        if passed
        else "\nFAILED"
    )
    return passed and conversions > 0


if __name__ == "__main__":
    actions = {
        "conversion": lambda record: describe_conversion(record) is None,
        "verification": describe_verification,
        "tensors": describe_tensors,
        "logits": describe_logits,
        "damage": damage,
        "misplace": misplace,
        "tokens": tokens,
        "table": table,
    }
    sys.exit(0 if actions[sys.argv[1]](sys.argv[2]) else 1)
