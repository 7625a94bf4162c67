internal import Quantization
internal import TensorFormats

/// Checks that the tensors of one part made from the same boxes belong together: codes without their scales, or with
/// scales made differently, would mean something else.
struct ModuleCheck {
  private struct Key: Hashable {
    let sources: [ShardPlan.Slice]
    let scheme: StoredScheme
  }

  private var modules: [Key: [ShardPlan.Tensor]] = [:]
  /// Blocks with per-matrix scales, and those scales.
  private var blocks: [ShardPlan.Slice: (blocks: Int, scales: Int, name: String)] = [:]

  init(_ tensors: [ShardPlan.Tensor]) {
    for tensor in tensors {
      if let scheme = tensor.operation.scheme {
        modules[Key(sources: tensor.sources, scheme: scheme), default: []].append(tensor)
        continue
      }
      guard tensor.source.scaling?.matrixScales != nil, !tensor.operation.decodes else { continue }
      let isScale = tensor.operation.part == .matrixScales
      blocks[tensor.source, default: (0, 0, tensor.name)].blocks += isScale ? 0 : 1
      blocks[tensor.source, default: (0, 0, tensor.name)].scales += isScale ? 1 : 0
    }
  }

  /// - Throws: `.malformed` naming a tensor that lacks another.
  func run() throws(CheckpointError) {
    for (key, tensors) in modules { try check(tensors, of: key.scheme) }
    for (_, count) in blocks where count.blocks != count.scales {
      throw CheckpointError(
        .malformed, "blocks and their matrix scales are not stored together", tensor: count.name)
    }
  }

  private func check(_ tensors: [ShardPlan.Tensor], of scheme: StoredScheme) throws(CheckpointError) {
    var parts: [StoredScheme.Part: ShardPlan.Operation] = [:]
    for tensor in tensors {
      guard let part = tensor.operation.part, parts.updateValue(tensor.operation, forKey: part) == nil else {
        throw CheckpointError(.malformed, "it appears twice, under two names", tensor: tensor.name)
      }
    }
    func fault(_ message: String) -> CheckpointError {
      CheckpointError(.malformed, message, tensor: tensors[0].name)
    }
    guard let codes = parts[.codes], let scales = parts[.scales] else {
      throw fault("codes and scales of \(scheme.scheme) are not stored together")
    }
    guard (parts[.matrixScales] != nil) == scheme.scheme.geometry.hasMatrixScale else {
      throw fault("its matrix scales are not those of \(scheme.scheme)")
    }
    let belong: Bool
    switch codes {
    case .encode(_, _, let encoding):
      belong = [scales, parts[.matrixScales]].allSatisfy { operation in
        guard let operation else { return true }
        if case .encode(_, _, encoding) = operation { return true }
        return false
      }
    case .unpack:
      if case .unpack = scales {
        belong = parts[.matrixScales].map(\.isCarried) ?? true
      } else {
        belong = false
      }
    default: belong = scales.isCarried && parts[.matrixScales].map(\.isCarried) ?? true
    }
    guard belong else { throw fault("codes and scales are made in different ways") }
    guard (parts[.shape] != nil) == (scheme.shapeSuffix != nil) || (codes.isCarried && parts[.shape] == nil)
    else {
      throw fault("the shape before packing is not stored with the codes")
    }
  }
}

extension ShardPlan.Operation {
  fileprivate var isCarried: Bool { if case .carry = self { true } else { false } }
}
