/// Text compared byte by byte. Swift treats canonically equivalent spellings as equal, but a vocabulary may have
/// composed and decomposed forms as separate tokens.
package struct Bytewise: Hashable, Sendable {
  package let text: String

  package init(text: String) { self.text = text }

  package static func == (left: Bytewise, right: Bytewise) -> Bool {
    left.text.utf8.elementsEqual(right.text.utf8)
  }

  package func hash(into hasher: inout Hasher) {
    var text = text
    text.withUTF8 { unsafe hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}

extension String {
  /// Whether the UTF-8 bytes of this string sort before those of `other`: the order of Rust and, for well-formed text,
  /// of Python. Swift's own `<` sorts canonically equivalent spellings as equal.
  package func precedesBytewise(_ other: String) -> Bool {
    utf8.lexicographicallyPrecedes(other.utf8)
  }
}
