internal import JSON
package import TensorFormats

/// A JSON object whose members can be removed and added while every other byte stays unchanged: numbers keep their
/// spelling, Python's `NaN` and `Infinity` included, and members their order.
package struct ConfigurationText {
  package private(set) var members: [(key: String, value: String)]

  /// - Throws: `.malformed` if the text is not a JSON object.
  package init(_ text: [UInt8]) throws(CheckpointError) {
    let bytes = unsafe text.span.bytes
    var scanner = JSONScanner(bytes, dialect: .python)
    var list = try scanner.openObject("the configuration")
    var members: [(key: String, value: String)] = []
    while let key = try scanner.nextKey(&list) {
      let start = scanner.offset
      try scanner.skipValue()
      let value = text[start..<scanner.offset].drop { Self.isSpace($0) }
      members.append((key, String(decoding: value, as: UTF8.self)))
    }
    try scanner.finish()
    self.members = members
  }

  /// The value of a member, as its text; setting `nil` removes the member, setting a new one appends it.
  package subscript(key: String) -> String? {
    get { members.first { $0.key == key }?.value }
    set {
      let place = members.firstIndex { $0.key == key }
      switch (place, newValue) {
      case (let place?, let value?): members[place].value = value
      case (let place?, nil): members.remove(at: place)
      case (nil, let value?): members.append((key, value))
      case (nil, nil): break
      }
    }
  }

  /// The value of a member that is present and not null.
  package func stated(_ key: String) -> String? {
    guard let value = self[key], value != "null" else { return nil }
    return value
  }

  /// The object that a member is; `nil` for one that is missing or anything else.
  package func object(_ key: String) throws(CheckpointError) -> ConfigurationText? {
    guard let value = self[key], value.hasPrefix("{") else { return nil }
    return try ConfigurationText(Array(value.utf8))
  }

  /// The object's text, one member a line, as a file of its own.
  package func text() -> String { text(indentation: 0) + "\n" }

  /// The same, indented as the value of a member. Members keep their own line breaks.
  package func text(indentation: Int) -> String {
    let space = String(repeating: " ", count: indentation)
    let lines = members.map { "\(space)  \(JSONText.quoted($0.key)): \($0.value)" }
    return lines.isEmpty ? "{}" : "{\n" + lines.joined(separator: ",\n") + "\n\(space)}"
  }

  private static func isSpace(_ byte: UInt8) -> Bool {
    byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09
  }
}

extension ConfigurationText: Equatable {
  package static func == (left: Self, right: Self) -> Bool {
    left.members.elementsEqual(right.members) { $0.key == $1.key && $0.value == $1.value }
  }
}
