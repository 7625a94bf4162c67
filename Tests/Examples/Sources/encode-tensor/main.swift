// encode-tensor TYPE: encodes a row of 256 values, decodes it again, and prints the error.
import Quantization
import TensorFormats

guard let type = ElementType(rawValue: CommandLine.arguments[1]), let codec = BlockCodec.codec(for: type)
else {
  throw CheckpointError(.unsupported, "\(CommandLine.arguments[1]) holds no real numbers that can be encoded")
}
// A ramp from -1 to 1.
let row = (0..<256).map { Float($0) / 127.5 - 1 }
let blocks = try codec.encode(row, columns: row.count)
let restored = try codec.decode(blocks)
let errors = try ErrorSums(original: row, restored: restored)
print(
  "\(codec.elementType): \(row.count) values in \(blocks.count) bytes, relative error \(errors.relativeRMSE)")
