internal import Checkpoint
internal import Inspection
internal import JSON
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// What the page's script reads, as one JSON document.
struct PageData {
  private let contents: ReportContents
  private let grids: [(row: String, grid: FigureGrid)]

  /// - Parameter grids: The grids of the page's heat maps by index, with the meaning of a row.
  init(_ contents: ReportContents, grids: [(row: String, grid: FigureGrid)]) {
    self.contents = contents
    self.grids = grids
  }

  /// The document as text for a script element: without characters that could end it.
  var text: String {
    JSONText.compact(document).replacing("<", with: "\\u003c")
  }

  private var document: JSONValue {
    let entries = contents.entries
    let roles = TensorRole.allCases.filter { role in entries.contains { $0.role == role } }
    let files = contents.listing.files.map(\.path)
    let places = Dictionary(files.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
    let tensors = entries.map { entry -> JSONValue in
      .array([
        .string(entry.name.printable), .string(entry.dtype.rawValue),
        .array(entry.shape.dimensions.map(whole)), whole(entry.bytes),
        whole(roles.firstIndex(of: entry.role) ?? 0), whole(entry.layer ?? -1),
        whole(places[entry.file] ?? 0),
        whole(entry.count), entry.values.map { figures($0, entry.distribution) } ?? .null,
      ])
    }
    return .object([
      "hasValues": .bool(contents.hasValues),
      "roles": .array(roles.map { .string($0.rawValue) }),
      "files": .array(files.map { .string($0.printable) }),
      "magnitudePercents": .array(ValueDistribution.magnitudePercents.map(number)),
      "percents": .array(ValueDistribution.valuePercents.map(number)),
      "grids": .array(grids.map(grid)),
      "tensors": .array(tensors),
    ])
  }

  private func figures(_ values: ValueStatistics, _ distribution: ValueDistribution?) -> JSONValue {
    var members: JSONMembers = [
      "minimum": values.minimum.map(extreme) ?? .null, "maximum": values.maximum.map(extreme) ?? .null,
      "mean": values.mean.map(number) ?? .null, "rms": values.rms.map(number) ?? .null,
      "zeros": whole(values.zeros), "nan": whole(values.nan), "infinite": whole(values.infinite),
    ]
    if let distribution {
      members["percentiles"] = .array(distribution.values.map(number))
      members["magnitudes"] = .array(distribution.magnitudes.map(number))
      members["low"] = number(distribution.minimum)
      members["high"] = number(distribution.maximum)
      members["counts"] = .array(distribution.counts.map(whole))
    }
    return .object(members)
  }

  private func grid(_ row: String, _ grid: FigureGrid) -> JSONValue {
    .object([
      "row": .string(row), "rows": .array(grid.rows.map { .string($0.printable) }),
      "columns": .array(grid.columns.map { .string($0) }),
      "values": .array(grid.values.map { .array($0.map { $0.map(number) ?? .null }) }),
    ])
  }

  private func whole(_ value: Int) -> JSONValue { .number(JSONNumber("\(value)")) }

  /// A number with as many digits as a page shows.
  private func number(_ value: Double) -> JSONValue {
    guard value.isFinite else { return .null }
    return .number(JSONNumber("\(Self.rounded(value))"))
  }

  private static func rounded(_ value: Double) -> Double {
    guard value != 0 else { return 0 }
    let scale = pow(10, 3 - floor(log10(value.magnitude)))
    let scaled = (value * scale).rounded()
    // At the ends of the range of doubles this power of ten does not exist.
    return scale.isNormal && scaled.isFinite ? scaled / scale : value
  }

  private func real(_ value: Extreme) -> Double {
    switch value {
    case .real(let value): value
    case .integer(let value): Double(value)
    }
  }

  private func extreme(_ value: Extreme) -> JSONValue { number(real(value)) }
}
