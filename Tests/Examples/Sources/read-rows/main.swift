// read-rows PATH NAME MATRIX: the largest magnitude of each row of one expert, sixteen rows at a time.
import Checkpoint
import StoredWeights
import TensorFormats

let (path, name, matrix) = (
  CommandLine.arguments[1], CommandLine.arguments[2], Int(CommandLine.arguments[3])!
)
let weights = try ModelWeights(Checkpoint.open(path))
guard let weight = weights[name] else {
  throw CheckpointError(.notFound, "there is no such weight", path: path, tensor: name)
}
let reader = try MatrixReader(weights, weight, matrix: matrix)
for first in stride(from: 0, to: reader.rows, by: 16) {
  let rows = first..<min(first + 16, reader.rows)
  let values = try reader.read(rows)
  for row in rows {
    let start = (row - first) * reader.columns
    print(row, values[start..<start + reader.columns].map(abs).max() ?? 0)
  }
}
