/// What somebody who wrote a name that is not known may have meant.
public enum NearestName {
  /// The name that is most like a wrong one, by the letters that have to change; `nil` where there are no names.
  ///
  /// O(names x letters squared); letters beyond the 64th do not count, nor does their case.
  public static func nearest(to name: String, among names: some Collection<String>) -> String? {
    let wanted = letters(of: name)
    return names.min { distance(wanted, letters(of: $0)) < distance(wanted, letters(of: $1)) }
  }

  /// The same where a slip of the hand explains the difference: a third of the letters at most.
  public static func suggestion(for name: String, among names: some Collection<String>) -> String? {
    guard let nearest = nearest(to: name, among: names) else { return nil }
    let (wanted, found) = (letters(of: name), letters(of: nearest))
    return distance(wanted, found) <= max(1, max(wanted.count, found.count) / 3) ? nearest : nil
  }

  private static func letters(of name: String) -> [UInt8] { Array(name.lowercased().utf8.prefix(64)) }

  /// Levenshtein's distance.
  private static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var row = Array(0...b.count)
    for (i, left) in a.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, right) in b.enumerated() {
        let changed = diagonal + (left == right ? 0 : 1)
        diagonal = row[j + 1]
        row[j + 1] = min(changed, row[j] + 1, row[j + 1] + 1)
      }
    }
    return row[b.count]
  }
}
