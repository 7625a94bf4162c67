public import TensorFormats

/// Whether an index and the shards it names agree: a pure function of their headers.
public enum ShardedSafetensors {
  /// One disagreement.
  public struct Issue: Hashable, Sendable {
    /// How bad it is.
    public enum Severity: String, Hashable, Sendable {
      /// Some tensor cannot be read, or it is ambiguous which bytes belong to it.
      case error
      /// All indexed tensors can be read; something else is odd.
      case warning
    }

    /// What disagrees.
    public enum Code: String, Hashable, Sendable, CaseIterable {
      /// The index names a shard that is not there.
      case missingShard
      /// The index names a tensor that its shard does not have.
      case missingTensor
      /// Two shards have a tensor of the same name.
      case duplicateTensor
      /// A shard has a tensor that the index does not name. Loaders that follow the index never see it.
      case unindexedTensor
      /// A shard is there that the index does not name.
      case unindexedShard
      /// `total_size` is not the sum of the tensors' bytes.
      case totalSizeMismatch

      /// How bad this is, always.
      public var severity: Severity {
        switch self {
        case .missingShard, .missingTensor, .duplicateTensor: .error
        case .unindexedTensor, .unindexedShard, .totalSizeMismatch: .warning
        }
      }
    }

    /// What disagrees.
    public let code: Code
    /// The shard concerned; `nil` for the checkpoint as a whole.
    public let shard: String?
    /// The tensor concerned, if any.
    public let tensor: String?
    /// One sentence without a full stop, to be shown with shard and tensor.
    public let message: String

    /// How bad it is.
    public var severity: Severity { code.severity }

    /// The same as an error, for callers that stop at the first.
    public var error: CheckpointError {
      CheckpointError(
        code == .missingShard ? .notFound : .malformed, message, path: shard, tensor: tensor,
        remedy: code == .missingShard ? "the download may be incomplete" : nil)
    }
  }

  /// Compares an index with the headers of its shards.
  ///
  /// Tensors of shards that the index does not name are not compared, since no loader opens them.
  /// - Parameters:
  ///   - index: The index.
  ///   - shards: The headers of the shards that are there, by file name.
  /// - Returns: What disagrees, errors before warnings, otherwise in the order of ``Issue/Code``, shard and tensor;
  ///   empty for a sound checkpoint.
  /// - Complexity: O(*n* log *n*) in the number of tensors.
  public static func issues(index: SafetensorsIndex, shards: [String: SafetensorsHeader]) -> [Issue] {
    var issues: [Issue] = []
    let present = index.shardNames.filter { shards[$0] != nil }
    var holders: [String: String] = [:]
    var byteCount = 0
    for shard in present {
      guard let header = shards[shard] else { continue }
      byteCount += header.dataByteCount
      for tensor in header.tensors {
        let name = tensor.name
        if let first = holders[name] {
          issues.append(
            Issue(code: .duplicateTensor, shard: shard, tensor: name, message: "shard '\(first)' has it too"))
        } else {
          holders[name] = shard
        }
        if index.weightMap[name] == nil {
          issues.append(
            Issue(code: .unindexedTensor, shard: shard, tensor: name, message: "the index does not name it"))
        }
      }
    }
    var tensorCounts: [String: Int] = [:]
    for (tensor, shard) in index.weightMap {
      tensorCounts[shard, default: 0] += 1
      guard let header = shards[shard], header.index(of: tensor) == nil else { continue }
      let elsewhere = holders[tensor].map { ", but shard '\($0)' does" } ?? ""
      issues.append(
        Issue(
          code: .missingTensor, shard: shard, tensor: tensor,
          message: "the shard that the index names does not have it\(elsewhere)"))
    }
    for shard in index.shardNames where shards[shard] == nil {
      issues.append(
        Issue(
          code: .missingShard, shard: shard, tensor: nil,
          message:
            "the shard is not there; the index expects \(tensorCounts[shard, default: 0]) tensors in it"))
    }
    for (shard, header) in shards where tensorCounts[shard] == nil {
      issues.append(
        Issue(
          code: .unindexedShard, shard: shard, tensor: nil,
          message: "the index does not name this shard and its \(header.tensors.count) tensors"))
    }
    if let totalSize = index.totalSize, totalSize != byteCount, present.count == index.shardNames.count {
      issues.append(
        Issue(
          code: .totalSizeMismatch, shard: nil, tensor: nil,
          message: "'total_size' in the index is \(totalSize), but the tensors take \(byteCount) bytes"))
    }
    return sorted(issues)
  }

  private static func sorted(_ issues: [Issue]) -> [Issue] {
    let ranks = Dictionary(uniqueKeysWithValues: Issue.Code.allCases.enumerated().map { ($1, $0) })
    return issues.sorted { left, right in
      guard left.code == right.code else {
        return ranks[left.code, default: 0] < ranks[right.code, default: 0]
      }
      let (leftShard, rightShard) = (left.shard ?? "", right.shard ?? "")
      guard leftShard == rightShard else { return leftShard.precedesBytewise(rightShard) }
      return (left.tensor ?? "").precedesBytewise(right.tensor ?? "")
    }
  }
}
