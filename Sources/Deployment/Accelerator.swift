/// How numbers are stored or multiplied.
public enum Precision: String, Hashable, Sendable, CaseIterable, Codable {
  case bf16, fp8

  /// Bytes of one.
  public var bytes: Int { self == .bf16 ? 2 : 1 }
}

/// One kind of card, and what it costs.
public struct Accelerator: Hashable, Sendable, Encodable {
  /// Its name.
  public var name: String
  /// US dollars for one card and one hour.
  public var pricePerHour: Double
  /// Operations per second in BF16 or F16.
  public var bf16: Double
  /// Operations per second in FP8; `nil` if not supported.
  public var fp8: Double?
  /// Memory bandwidth, in bytes per second.
  public var bandwidth: Double
  /// Bytes of memory.
  public var memory: Double
  /// One card's share of the network bandwidth, in bytes per second, each way.
  public var network: Double

  /// Describes a card.
  public init(
    name: String, pricePerHour: Double, bf16: Double, fp8: Double? = nil, bandwidth: Double, memory: Double,
    network: Double
  ) {
    self.name = name
    self.pricePerHour = pricePerHour
    self.bf16 = bf16
    self.fp8 = fp8
    self.bandwidth = bandwidth
    self.memory = memory
    self.network = network
  }

  /// Operations per second at a precision, or at BF16 if the card does not support it.
  public func operations(_ precision: Precision) -> Double { precision == .fp8 ? fp8 ?? bf16 : bf16 }

  /// US dollars for one second.
  public var pricePerSecond: Double { pricePerHour / 3600 }

  /// US dollars for one operation at full use.
  public func costPerOperation(_ precision: Precision) -> Double { pricePerSecond / operations(precision) }

  /// US dollars for one byte of memory that is read, at full use.
  public var costPerByte: Double { pricePerSecond / bandwidth }

  /// Operations per byte at which computing takes as long as reading.
  public func roofline(_ precision: Precision) -> Double { operations(precision) / bandwidth }
}
