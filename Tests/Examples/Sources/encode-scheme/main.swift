// encode-scheme: two rows in INT4 with a scale per 128 weights, as in compressed-tensors.
import Quantization
import TensorFormats

let columns = 256
let values = (0..<2 * columns).map { Float($0 % 97) / 48 - 1 }
let scheme = try RowScheme(StoredScheme(.int4Group(128), .compressedTensors))
for search in ScaleSearch.allCases {
  let encoded = try scheme.encode(values, columns: columns, search: search)
  let restored = try scheme.decode(encoded, columns: columns)
  let errors = try ErrorSums(original: values, restored: restored)
  print(
    search, "\(encoded.codes.count) bytes of codes, \(encoded.scales.count) of scales, relative error",
    errors.relativeRMSE)
}
