package import Checkpoint
package import Inspection
internal import Step3Model
package import TensorFormats

/// One tensor of a report, or those of all experts of a layer together.
package struct TensorEntry: Sendable {
  /// The tensor's name, with `*` for the varying part if it stands for several.
  package let name: String
  /// The name of the weight that it is, or belongs to.
  package let weight: String
  package let dtype: ElementType
  /// Of one tensor.
  package let shape: TensorShape
  /// How many tensors it stands for.
  package private(set) var count = 1
  /// Of all of them.
  package private(set) var bytes: Int
  /// The file of the first.
  package let file: String
  package let role: TensorRole
  package let layer: Int?
  package private(set) var values: ValueStatistics?
  /// `nil` if no values were read, and for several tensors together.
  package private(set) var distribution: ValueDistribution?

  /// Describes one tensor.
  package init(
    _ tensor: TensorListing.Tensor, name: String, values: ValueStatistics? = nil,
    distribution: ValueDistribution? = nil
  ) {
    self.name = name
    weight = WeightName(tensor.name).text
    dtype = tensor.dtype
    shape = tensor.shape
    bytes = tensor.bytes
    file = tensor.file
    role = tensor.role
    layer = tensor.layer
    self.values = values
    self.distribution = distribution
  }

  /// Adds another one of the same kind.
  fileprivate mutating func add(_ other: TensorEntry) {
    count += other.count
    bytes += other.bytes
    if let theirs = other.values {
      if values == nil { values = theirs } else { values?.merge(theirs) }
    }
    distribution = nil
  }
}

extension [TensorEntry] {
  /// With more tensors than this, those of the experts of a layer become one entry.
  static let mostByThemselves = 4096

  /// The tensors of a listing, with their statistics.
  ///
  /// - Parameter statistics: Of the same tensors in the same order; `nil` if none were read.
  init(_ listing: TensorListing, _ statistics: StatisticsReport?) {
    let folds = listing.tensors.count > Self.mostByThemselves
    var entries: [TensorEntry] = []
    var places: [[String]: Int] = [:]
    for (index, tensor) in listing.tensors.enumerated() {
      let figures = statistics?.tensors[index]
      let name = folds ? WeightName(tensor.name).folded(tensor.name) : tensor.name
      let entry = TensorEntry(
        tensor, name: name, values: figures?.values, distribution: figures?.distribution)
      let folder = String(tensor.file.prefix { $0 != "/" })
      let key = [name, tensor.dtype.rawValue, "\(tensor.shape)", tensor.file.contains("/") ? folder : ""]
      if folds, let place = places[key] {
        entries[place].add(entry)
      } else {
        places[key] = entries.count
        entries.append(entry)
      }
    }
    self = entries
  }
}

/// The parts of a tensor's name: the weight, the kind of module, the layer and the expert.
package struct WeightName {
  private let parts: [Substring]

  package init(_ name: String) { parts = name.split(separator: ".", omittingEmptySubsequences: false) }

  /// The weight that a tensor is, or belongs to: scales and codes use the name of their weight here.
  package var text: String {
    guard let last = parts.last, let suffix = Step3TensorName.Suffix(rawValue: String(last)),
      ![.none, .weight, .bias].contains(suffix)
    else { return parts.joined(separator: ".") }
    return (parts.dropLast() + ["weight"]).joined(separator: ".")
  }

  /// The numbers in it with their places.
  private var numbers: [(place: Int, number: Int)] {
    parts.enumerated().compactMap { place, part in
      part.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } && part.utf8.count < 7
        ? Int(part).map { (place, $0) } : nil
    }
  }

  /// The number after the layer's: the expert's, in checkpoints that store each separately.
  package var expert: Int? { numbers.dropFirst().first?.number }

  /// The name without layer and expert: `self_attn.q_proj`, `moe.up_proj`, `attn_q`.
  package var module: String {
    let numbers = numbers
    let start = numbers.first.map { $0.place + 1 } ?? 0
    let kept = parts.indices.filter { index in index >= start && !numbers.contains { $0.place == index } }
    let name = kept.map { parts[$0] }.joined(separator: ".")
    return name.hasSuffix(".weight") ? String(name.dropLast(7)) : name
  }

  /// The name with `*` for the expert's number.
  package func folded(_ name: String) -> String {
    guard let place = numbers.dropFirst().first?.place else { return name }
    var parts = parts
    parts[place] = "*"
    return parts.joined(separator: ".")
  }
}
