public import Checkpoint
public import TensorFormats

/// Tensors whose names differ only in numbers, and which agree in everything else that is listed.
public struct FoldedTensor: Encodable, Hashable, Sendable {
  /// The names as a pattern: `model.layers.[4-59].moe.up_proj.weight`.
  public let name: String
  /// How many there are.
  public let count: Int
  public let dtype: ElementType
  /// Of each, row-major, outermost first.
  public let shape: TensorShape
  /// The values of each.
  public let elements: Int
  /// The bytes of all of them.
  public let bytes: Int
  public let role: TensorRole
  /// The part of a partition set that holds them; `nil` otherwise.
  public let part: String?
  /// The contents of the brackets: for each varying number the ranges of its values, as first and last. Every
  /// combination of them is one of the tensors.
  public let indices: [[[Int]]]
}

extension TensorListing {
  /// The listed tensors, with one row for each repeated structure.
  ///
  /// Numbers are whole components of a name between dots, without leading zeros. A row takes the position of its
  /// first tensor. If not every combination of two numbers occurs, the tensors are split into as many rows as
  /// necessary.
  /// - Complexity: O(*n* log *n*) in the number of tensors.
  public func folded() -> [FoldedTensor] {
    var groups: [FoldingKey: [(position: Int, indices: [Int])]] = [:]
    for (position, tensor) in tensors.enumerated() {
      let (key, indices) = FoldingKey.taking(apart: tensor)
      groups[key, default: []].append((position, indices))
    }
    var rows: [(position: Int, row: FoldedTensor)] = []
    for (key, members) in groups {
      // Files of one checkpoint do not repeat a name, but a row must never claim more tensors than exist.
      let distinct = Set(members.map(\.indices)).count == members.count
      let boxes = distinct ? IndexBox.covering(members) : members.map { IndexBox($0) }
      for box in boxes { rows.append((box.position, key.row(box))) }
    }
    return rows.sorted { $0.position < $1.position }.map(\.row)
  }
}

/// What tensors of one row have in common.
private struct FoldingKey: Hashable {
  /// The components of the name; `nil` for a number.
  let components: [Substring?]
  let dtype: ElementType
  let shape: TensorShape
  let elements: Int
  let bytes: Int
  let role: TensorRole
  let part: String?

  static func taking(apart tensor: TensorListing.Tensor) -> (FoldingKey, [Int]) {
    var indices: [Int] = []
    let components = tensor.name.split(separator: ".", omittingEmptySubsequences: false).map {
      component -> Substring? in
      // Only canonical spellings, so that nothing is lost.
      guard let index = Int(component), String(index) == component, index >= 0 else { return component }
      indices.append(index)
      return nil
    }
    let part = tensor.file.firstIndex(of: "/").map { String(tensor.file[..<$0]) }
    let key = FoldingKey(
      components: components, dtype: tensor.dtype, shape: tensor.shape, elements: tensor.elements,
      bytes: tensor.bytes, role: tensor.role, part: part)
    return (key, indices)
  }

  func row(_ box: IndexBox) -> FoldedTensor {
    var numbers = box.axes[...]
    let name = components.map { $0.map(String.init) ?? numbers.popFirst().map(text(of:)) ?? "" }
    let count = box.axes.reduce(1) { $0 * $1.count }
    return FoldedTensor(
      name: name.joined(separator: "."), count: count, dtype: dtype, shape: shape, elements: elements,
      bytes: bytes * count, role: role, part: part, indices: box.axes.filter { $0.count > 1 }.map(ranges(of:))
    )
  }

  private func text(of axis: [Int]) -> String {
    guard axis.count > 1 else { return axis.map(String.init).joined() }
    let texts = ranges(of: axis).map { $0[0] == $0[1] ? "\($0[0])" : "\($0[0])-\($0[1])" }
    return "[" + texts.joined(separator: ",") + "]"
  }

  private func ranges(of axis: [Int]) -> [[Int]] {
    var ranges: [[Int]] = []
    for index in axis {
      if let last = ranges.last, last[1] + 1 == index {
        ranges[ranges.count - 1][1] = index
      } else {
        ranges.append([index, index])
      }
    }
    return ranges
  }
}

/// All combinations of some numbers.
private struct IndexBox {
  /// Ascending, for each number of a name.
  let axes: [[Int]]
  /// The position of the first tensor in the listing.
  let position: Int

  private init(axes: [[Int]], position: Int) {
    self.axes = axes
    self.position = position
  }

  /// One tensor.
  init(_ member: (position: Int, indices: [Int])) {
    axes = member.indices.map { [$0] }
    position = member.position
  }

  /// Boxes that together have exactly these members: members that agree in the other numbers are merged, from the last
  /// number to the first.
  ///
  /// - Precondition: All have equally many numbers, and are distinct.
  static func covering(_ members: [(position: Int, indices: [Int])]) -> [IndexBox] {
    guard let first = members.first, !first.indices.isEmpty else { return members.map { IndexBox($0) } }
    let byFirst = Dictionary(grouping: members) { $0.indices[0] }
    var same: [[[[Int]]]: (numbers: [Int], positions: [Int])] = [:]
    for number in byFirst.keys.sorted() {
      let rest = covering(
        (byFirst[number] ?? []).map { (position: $0.position, indices: Array($0.indices.dropFirst())) })
      let found = same[rest.map(\.axes)] ?? ([], rest.map(\.position))
      same[rest.map(\.axes)] = (
        found.numbers + [number], zip(found.positions, rest.map(\.position)).map { min($0, $1) }
      )
    }
    return same.flatMap { rest, found in
      zip(rest, found.positions).map { IndexBox(axes: [found.numbers] + $0, position: $1) }
    }.sorted { a, b in
      // Compared lexicographically.
      a.axes.lexicographicallyPrecedes(b.axes) { $0.lexicographicallyPrecedes($1) }
    }
  }
}
