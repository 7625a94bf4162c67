internal import OrderedCollections
package import TensorFormats

/// The members of a JSON object: in the order of their document, with lookup by key.
///
/// Keys are compared byte by byte, as other readers compare them: two spellings of one accent are two keys. Two objects
/// with the same members in another order are equal, as they are to every reader.
public struct JSONMembers: Sendable {
  private var members: OrderedDictionary<Bytewise, JSONValue> = [:]

  /// No members.
  public init() {}

  /// The value of a key; `nil` where it is absent. Setting `nil` removes the member, setting a new one appends it.
  ///
  /// - Complexity: O(1); O(n) for removal.
  public subscript(key: String) -> JSONValue? {
    get { members[Bytewise(text: key)] }
    set { members[Bytewise(text: key)] = newValue }
  }

  /// The keys in their order.
  public var keys: [String] { members.keys.map(\.text) }

  /// The values in their order.
  public var values: [JSONValue] { Array(members.values) }

  /// The members whose keys satisfy a condition, in their order.
  public func keeping(_ isKept: (String) throws -> Bool) rethrows -> JSONMembers {
    var kept = JSONMembers()
    for member in self where try isKept(member.key) { kept[member.key] = member.value }
    return kept
  }

  /// The members in the byte order of their keys, recursively.
  public var sorted: JSONMembers {
    var sorted = JSONMembers()
    for member in Array(self).sorted(by: { $0.key.precedesBytewise($1.key) }) {
      sorted[member.key] = member.value.sorted
    }
    return sorted
  }

  /// Reads an object member by member: members before a fault are kept when it is thrown, and the faulty member is
  /// `null`.
  ///
  /// - Parameter what: The object's name in messages.
  package mutating func read(_ scanner: inout JSONScanner, _ what: String) throws(CheckpointError) {
    var list = try scanner.openObject(what)
    while let key = try scanner.nextKey(&list) {
      guard self[key] == nil else {
        throw scanner.errorAtToken(
          "the key '\(key.printable)' appears twice, and readers differ in which one they use")
      }
      self[key] = .null
      members.values[members.count - 1] = try JSONValue(&scanner)
    }
  }
}

extension JSONMembers: RandomAccessCollection {
  public var startIndex: Int { 0 }
  public var endIndex: Int { members.count }
  public subscript(position: Int) -> (key: String, value: JSONValue) {
    let member = members.elements[position]
    return (member.key.text, member.value)
  }
}

extension JSONMembers: ExpressibleByDictionaryLiteral {
  /// - Precondition: No key appears twice.
  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    self.init(elements)
  }

  /// Takes members in order. The last of several with the same key wins, in the place of the first.
  public init(_ elements: some Sequence<(String, JSONValue)>) {
    for (key, value) in elements { self[key] = value }
  }
}

extension JSONMembers: Hashable {
  public static func == (left: JSONMembers, right: JSONMembers) -> Bool {
    left.count == right.count && left.members.allSatisfy { right.members[$0.key] == $0.value }
  }

  public func hash(into hasher: inout Hasher) {
    var sum = 0
    for member in members {
      var one = Hasher()
      one.combine(member.key)
      one.combine(member.value)
      sum ^= one.finalize()
    }
    hasher.combine(sum)
  }
}
