public import Checkpoint
internal import Step3Model
public import TensorFormats

/// Which tensors of a checkpoint are selected, and in what order.
public struct TensorSelection: Sendable {
  /// The order of the tensors.
  public enum Order: String, Sendable, CaseIterable {
    /// By name, with numbers in natural order: layer 2 before layer 10.
    case name
    /// The largest first.
    case size
    /// In file order.
    case file
  }

  /// Whether a name is selected; `nil` for all. It throws if a pattern takes too long.
  public var matches: (@Sendable (String) throws(CheckpointError) -> Bool)?
  /// The selected role; `nil` for all.
  public var role: TensorRole?
  /// The order.
  public var order: Order

  /// Everything in file order, by default.
  public init(
    matches: (@Sendable (String) throws(CheckpointError) -> Bool)? = nil, role: TensorRole? = nil,
    order: Order = .file
  ) {
    self.matches = matches
    self.role = role
    self.order = order
  }

  /// The selected tensors with their model descriptions.
  ///
  /// - Throws: What ``matches`` throws.
  func choose(
    from checkpoint: Checkpoint
  ) throws(CheckpointError) -> [(tensor: Checkpoint.Tensor, role: TensorRole, layer: Int?)] {
    var chosen: [(tensor: Checkpoint.Tensor, role: TensorRole, layer: Int?)] = []
    for tensor in checkpoint.tensors {
      if let matches, try !matches(tensor.name) { continue }
      let description = TensorDescription(name: tensor.name)
      if let role, role != description.role { continue }
      chosen.append((tensor, description.role, description.layer))
    }
    switch order {
    case .file: break
    case .size:
      chosen.sort { a, b in
        a.tensor.byteRange.count != b.tensor.byteRange.count
          ? a.tensor.byteRange.count > b.tensor.byteRange.count : a.tensor.name < b.tensor.name
      }
    case .name:
      let keyed = chosen.map { (key: NaturalKey($0.tensor.name), value: $0) }
      chosen = keyed.sorted { $0.key < $1.key }.map(\.value)
    }
    return chosen
  }

  /// The selected tensors.
  ///
  /// - Throws: What ``matches`` throws.
  public func tensors(of checkpoint: Checkpoint) throws(CheckpointError) -> [Checkpoint.Tensor] {
    try choose(from: checkpoint).map(\.tensor)
  }
}

/// A name in a form whose bytes compare in natural order: each run of digits is preceded by its length.
private struct NaturalKey: Comparable {
  private let bytes: [UInt8]

  init(_ name: String) {
    var bytes: [UInt8] = []
    var digits: [UInt8] = []
    func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
    for byte in name.utf8 {
      if isDigit(byte) {
        digits.append(byte)
        continue
      }
      Self.flush(&digits, into: &bytes)
      bytes.append(byte)
    }
    Self.flush(&digits, into: &bytes)
    self.bytes = bytes
  }

  private static func flush(_ digits: inout [UInt8], into bytes: inout [UInt8]) {
    guard !digits.isEmpty else { return }
    // A digit first, so that numbers sort where digits do; its value is the length of the number.
    bytes.append(UInt8(ascii: "0") + UInt8(min(9, digits.count)))
    bytes += digits
    digits.removeAll(keepingCapacity: true)
  }

  static func < (a: NaturalKey, b: NaturalKey) -> Bool { a.bytes.lexicographicallyPrecedes(b.bytes) }
}
