/// What was lost in re-encoding some elements, and what a search for scales has gained.
public struct RecodingErrors: Hashable, Sendable {
  /// The difference between the values and what is stored.
  public var sums: ErrorSums
  /// What the search has gained; zeros if there was none.
  public var search: SearchErrors

  /// Puts both together.
  public init(_ sums: ErrorSums = ErrorSums(), search: SearchErrors = SearchErrors()) {
    self.sums = sums
    self.search = search
  }

  /// Adds those of another part.
  public mutating func merge(_ other: RecodingErrors) {
    sums.merge(other.sums)
    search.merge(other.search)
  }
}
