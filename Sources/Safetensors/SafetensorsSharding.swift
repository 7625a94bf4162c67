public import TensorFormats

/// A model divided into safetensors files of limited size, with the index that names them.
public struct SafetensorsSharding: Hashable, Sendable {
  /// One file of the set.
  public struct Shard: Hashable, Sendable {
    /// The file's name, `model-00001-of-00004.safetensors`; without numbers if it is the only one.
    public let fileName: String
    /// What goes where in it.
    public let layout: SafetensorsLayout
  }

  /// The files, in order.
  public let shards: [Shard]
  /// Which file holds which tensor. A single file needs no index beside it.
  public let index: SafetensorsIndex

  /// Divides tensors into shards.
  ///
  /// Tensors are taken in the order given, and a new shard begins whenever the next tensor would make the current one
  /// too large. A tensor larger than the limit gets a shard of its own.
  /// - Parameters:
  ///   - items: The tensors, in the order in which they are to fill the shards.
  ///   - maximumByteCount: The most tensor bytes in one shard; headers come on top.
  ///   - metadata: `__metadata__` of every shard.
  ///   - order: How tensors follow each other inside a shard.
  ///   - alignment: As for ``SafetensorsLayout``.
  ///   - prefix: How file names begin.
  /// - Throws: As ``SafetensorsLayout``, also for a name that two shards would have. `.invalidRequest` for a limit
  ///   that is not positive and for a prefix that makes no plain file name.
  public init(
    _ items: [SafetensorsLayout.Item], maximumByteCount: Int, metadata: [String: String] = [:],
    order: SafetensorsLayout.Order = .reference, alignment: Int = 8, prefix: String = "model"
  ) throws(CheckpointError) {
    guard maximumByteCount > 0 else {
      throw CheckpointError(.invalidRequest, "a shard size of \(maximumByteCount) bytes is not positive")
    }
    let groups = try Self.groups(items, maximumByteCount: maximumByteCount)
    var shards: [Shard] = []
    var weightMap = [String: String](minimumCapacity: items.count)
    var totalSize = 0
    for (number, group) in groups.enumerated() {
      let fileName = Self.fileName(prefix: prefix, number: number + 1, count: groups.count)
      let layout = try SafetensorsLayout(group, metadata: metadata, order: order, alignment: alignment)
      for item in group where weightMap.updateValue(fileName, forKey: item.name) != nil {
        throw CheckpointError(.invalidRequest, "the name appears twice", tensor: item.name)
      }
      let (sum, overflow) = totalSize.addingReportingOverflow(layout.header.dataByteCount)
      guard !overflow else {
        throw CheckpointError(.invalidRequest, "the size of all tensors together overflows")
      }
      totalSize = sum
      shards.append(Shard(fileName: fileName, layout: layout))
    }
    self.shards = shards
    do throws(CheckpointError) {
      for shard in shards { try SafetensorsIndex.checkShardName(shard.fileName) }
      index = try SafetensorsIndex(weightMap: weightMap, totalSize: totalSize)
    } catch {
      throw CheckpointError(.invalidRequest, error.message, remedy: "choose another prefix")
    }
  }

  /// The name of a shard, as transformers and vLLM expect it.
  ///
  /// - Parameters:
  ///   - prefix: What the name begins with, `model` as a rule.
  ///   - number: From 1 to `count`.
  ///   - count: How many shards there are.
  public static func fileName(prefix: String, number: Int, count: Int) -> String {
    guard count > 1 else { return "\(prefix).safetensors" }
    func padded(_ value: Int) -> String {
      let digits = String(value)
      return String(repeating: "0", count: max(0, 5 - digits.utf8.count)) + digits
    }
    return "\(prefix)-\(padded(number))-of-\(padded(count)).safetensors"
  }

  private static func groups(
    _ items: [SafetensorsLayout.Item], maximumByteCount: Int
  ) throws(CheckpointError) -> [[SafetensorsLayout.Item]] {
    var groups: [[SafetensorsLayout.Item]] = [[]]
    var filled = 0
    for item in items {
      let byteCount = try item.checkedByteCount()
      let fits = byteCount <= maximumByteCount && filled <= maximumByteCount - byteCount
      if !fits, !groups[groups.count - 1].isEmpty {
        groups.append([])
        filled = 0
      }
      groups[groups.count - 1].append(item)
      // Never overflows: either it fits, or it is the only one, and `filled` then keeps the next one out.
      filled = fits ? filled + byteCount : byteCount
    }
    return groups
  }
}
