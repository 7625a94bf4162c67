/// Which names were probably meant by an unknown one.
package enum Suggestion {
  /// The names nearest to `name`, if near enough to be typos: letter case and separators are ignored, and then one
  /// typo in three letters is allowed, two in six. A name that continues this one is near too.
  ///
  /// A typo is an inserted, missing, wrong or transposed letter (the restricted Damerau-Levenshtein distance).
  /// - Returns: At most three, in the order of `names`; none rather than a wrong one.
  /// - Complexity: The product of the lengths, for each name; names longer than 64 letters match nothing.
  package static func nearest(to name: String, among names: [String]) -> [String] {
    let wanted = letters(of: name)
    guard (1...64).contains(wanted.count) else { return [] }
    let slips = wanted.count < 3 ? 0 : wanted.count < 6 ? 1 : 2
    let ranked = names.map { candidate in
      (name: candidate, distance: distance(wanted, letters(of: candidate), atMost: slips))
    }
    let least = ranked.compactMap(\.distance).min()
    if let least { return Array(ranked.filter { $0.distance == least }.map(\.name).prefix(3)) }
    guard wanted.count >= 3 else { return [] }
    return Array(names.filter { letters(of: $0).starts(with: wanted) }.prefix(3))
  }

  /// `did you mean Q4_K_M?`, `did you mean Q4_0 or Q4_1?`; `nil` if nothing is near.
  package static func question(for name: String, among names: [String]) -> String? {
    let nearest = nearest(to: name, among: names)
    return nearest.isEmpty ? nil : "did you mean \(nearest.joined(separator: " or "))?"
  }

  private static func letters(of name: String) -> [UInt8] {
    name.lowercased().utf8.filter { !"-_. ".utf8.contains($0) }
  }

  /// `nil` if it is larger than `bound`.
  private static func distance(_ a: [UInt8], _ b: [UInt8], atMost bound: Int) -> Int? {
    guard abs(a.count - b.count) <= bound else { return nil }
    var before: [Int] = []
    var row = Array(0...b.count)
    for i in a.indices {
      var next = [i + 1]
      next.reserveCapacity(b.count + 1)
      for j in b.indices {
        var least = min(row[j] + (a[i] == b[j] ? 0 : 1), row[j + 1] + 1, next[j] + 1)
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { least = min(least, before[j - 1] + 1) }
        next.append(least)
      }
      (before, row) = (row, next)
    }
    return row[b.count] <= bound ? row[b.count] : nil
  }
}
