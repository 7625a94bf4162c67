"""One thread of step3-convert beside one of llama.cpp's own quantiser, on the same BF16 file: the user time of the whole process.

    pip install cyllama gguf numpy
    python Tests/Benchmarks/stock_quantiser.py [DIRECTORY] [ROUNDS]

The package `cyllama` contains llama.cpp with `llama_model_quantize`. DIRECTORY needs 3 GB of space; in /dev/shm there is no
device to wait for. Both sides take turns, and medians are compared. The quantiser gets `pure`, so that both store the same formats; it
neither hashes nor measures errors nor syncs. BASELINE=DIR measures the tools of another build as well.
"""

import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

FORMATS = {"Q8_0": 7, "Q4_0": 2, "Q6_K": 18, "Q4_K": 14}


def write_source(path):
    """Writes three layers of an 8-billion-parameter Llama in BF16, normally distributed."""
    import gguf
    import numpy

    generator = numpy.random.default_rng(1)
    normal = generator.standard_normal(1 << 24, dtype=numpy.float32)

    def matrix(rows, columns):
        # Slices of one sample: drawing every value would cost more than what is measured.
        values = numpy.resize(numpy.roll(normal, generator.integers(normal.size)), rows * columns)
        bits = ((values * numpy.float32(0.02)).view(numpy.uint32) >> 16).astype(numpy.uint16)
        return bits.reshape(rows, columns).view(numpy.uint8)

    hidden, feed_forward, vocabulary, layers = 4096, 14336, 16000, 3
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(32)
    writer.add_head_count_kv(8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)

    def add(name, rows, columns):
        writer.add_tensor(name, matrix(rows, columns), raw_dtype=gguf.GGMLQuantizationType.BF16)

    add("token_embd.weight", vocabulary, hidden)
    for layer in range(layers):
        shapes = {"attn_q": (hidden, hidden), "attn_k": (1024, hidden), "attn_v": (1024, hidden), "attn_output": (hidden, hidden)}
        shapes |= {"ffn_gate": (feed_forward, hidden), "ffn_up": (feed_forward, hidden), "ffn_down": (hidden, feed_forward)}
        for name, shape in shapes.items():
            add(f"blk.{layer}.{name}.weight", *shape)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", numpy.ones(hidden, dtype=numpy.float32))
    writer.add_tensor("output_norm.weight", numpy.ones(hidden, dtype=numpy.float32))
    add("output.weight", vocabulary, hidden)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantise(source, target, file_type):
    """Quantises with llama.cpp; runs in a process of its own."""
    from cyllama.llama import llama_cpp

    parameters = llama_cpp.LlamaModelQuantizeParams()
    parameters.ftype = file_type
    parameters.nthread = 1
    parameters.pure = True
    llama_cpp.model_quantize(str(source), str(target), parameters)


def user_seconds(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    result = subprocess.run(command, capture_output=True)
    if result.returncode != 0:
        sys.exit(result.stderr.decode(errors="replace"))
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else None
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    root = pathlib.Path(__file__).resolve().parents[2]
    builds = {"step3-convert": root / ".build/release"}
    if "BASELINE" in os.environ:
        builds["baseline"] = pathlib.Path(os.environ["BASELINE"])
    times = {}
    with tempfile.TemporaryDirectory(dir=directory) as work:
        work = pathlib.Path(work)
        subprocess.run([sys.executable, __file__, "--source", work / "source.gguf"], check=True)
        for _ in range(rounds):
            for name, file_type in FORMATS.items():
                target = work / "stock.gguf"
                # The time of the interpreter and its modules is not the quantiser's.
                idle = user_seconds([sys.executable, "-c", "from cyllama.llama import llama_cpp"])
                stock = user_seconds([sys.executable, __file__, "--quantise", work / "source.gguf", target, str(file_type)])
                times.setdefault((name, "stock"), []).append(stock - idle)
                target.unlink()
                for build, tools in builds.items():
                    output = work / "out"
                    command = [tools / "step3-convert", work / "source.gguf", output, "--to", "gguf", "--quantize", name]
                    seconds = user_seconds([*command, "--threads", "1", "--progress", "none"])
                    times.setdefault((name, build), []).append(seconds)
                    subprocess.run(["rm", "-r", output], check=True)
    print(f"{'':8}{'quantiser':>12}" + "".join(f"{build:>16}{'ratio':>8}" for build in builds))
    for name in FORMATS:
        stock = statistics.median(times[name, "stock"])
        row = f"{name:8}{stock:10.2f} s"
        for build in builds:
            own = statistics.median(times[name, build])
            row += f"{own:14.2f} s{own / stock:8.2f}"
        print(row)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--source"]:
        write_source(sys.argv[2])
    elif sys.argv[1:2] == ["--quantise"]:
        quantise(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
