internal import Checkpoint
internal import StoredWeights
internal import Step3Model
internal import TensorFormats

extension ModelWeights {
  /// A weight that the forward pass needs, with the shape given by the configuration.
  ///
  /// - Throws: `.notFound` if it is missing, `.malformed` if it has another shape.
  func weight(_ name: Step3TensorName, _ shape: [Int]) throws(CheckpointError) -> Weight {
    guard let weight = self[name] else {
      throw CheckpointError(
        .notFound, "is missing, but the forward pass needs it", path: checkpoint.path,
        tensor: spelled(name))
    }
    try check(weight, shape)
    return weight
  }

  /// A whole matrix.
  func matrix(_ name: Step3TensorName, _ shape: [Int], at index: Int = 0) throws(CheckpointError)
    -> MatrixReader
  {
    try MatrixReader(self, weight(name, shape), matrix: index)
  }

  /// The available part of a matrix: all of it, or the box that a part of a partition set has.
  ///
  /// - Returns: `nil` if nothing of it is here.
  func heldMatrix(
    _ name: Step3TensorName, _ shape: [Int], matrix: Int
  ) throws(CheckpointError) -> MatrixReader? {
    guard let weight = self[name] else {
      guard isPart else {
        throw CheckpointError(
          .notFound, "is missing, but the forward pass needs it", path: checkpoint.path,
          tensor: spelled(name))
      }
      return nil
    }
    try check(weight, shape)
    return try MatrixReader(held: weight, matrix: matrix, of: self)
  }

  /// A vector's elements.
  func vector(
    _ name: Step3TensorName, _ count: Int
  ) throws(CheckpointError) -> [Float] {
    let weight = try weight(name, [count])
    return try values(of: weight)
  }

  /// A norm's factors, whether stored as such or around zero.
  func norm(_ name: Step3TensorName, _ count: Int) throws(CheckpointError) -> [Float] {
    let stored = try vector(name, count)
    let offset = offset(of: spelled(name))
    guard offset != 0 else { return stored }
    return stored.map { $0 + offset }
  }

  /// A vector stored as one row: `[1, count]`, or `[count]` if the format drops axes of length 1.
  func row(_ name: Step3TensorName, _ count: Int) throws(CheckpointError) -> [Float] {
    guard let weight = self[name], weight.shape.dimensions == [count] else {
      return try values(of: weight(name, [1, count]))
    }
    return try values(of: weight)
  }

  /// A convolution's weight as a matrix with a row for each output channel.
  func convolution(_ name: Step3TensorName, _ shape: [Int]) throws(CheckpointError) -> MatrixReader {
    try MatrixReader(convolution: weight(name, shape), of: self)
  }

  /// The published name of a tensor, for messages.
  func spelled(_ name: Step3TensorName) -> String { model?.published(name) ?? "\(name.module)" }

  private func check(_ weight: Weight, _ shape: [Int]) throws(CheckpointError) {
    guard weight.shape.dimensions == shape else {
      throw CheckpointError(
        .malformed, "has the shape \(weight.shape), but the configuration gives it \(shape)",
        path: checkpoint.path, tensor: weight.name)
    }
  }
}
