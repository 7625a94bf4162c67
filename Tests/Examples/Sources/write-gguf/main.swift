// write-gguf FILE: writes a GGUF file with one tensor of Q8_0.
import GGUF
import Quantization
import TensorFormats

func write(_ path: String) throws {
  let shape = TensorShape([2, 64])
  let values = (0..<shape.elementCount).map { Float($0) - 64 }
  guard let codec = BlockCodec.codec(for: .q8_0) else {
    throw CheckpointError(.unsupported, "there is no Q8_0")
  }
  let metadata = GGUFMetadata([
    .init("general.architecture", .string("example")), .init("example.block_count", .uint32(1)),
  ])
  let layout = try GGUFLayout(
    metadata: metadata, tensors: [.init(name: "blk.0.weight", elementType: .q8_0, shape: shape)])
  var writer = try GGUFWriter(path, layout: layout)
  try writer.append(codec.encode(values, columns: shape.columns), toTensor: 0)
  try writer.finish()
  print("\(layout.byteCount) bytes")
}

try write(CommandLine.arguments[1])
