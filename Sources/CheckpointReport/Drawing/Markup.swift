internal import TensorFormats

/// A piece of HTML or SVG being written. Text is added through ``text(_:)`` and ``element(_:_:text:)``, which escape
/// it, so that no name from a file can become markup.
struct Markup {
  private(set) var source = ""

  /// Appends existing markup.
  mutating func raw(_ markup: String) { source += markup }

  /// Appends the markup of another piece.
  mutating func raw(_ markup: Markup) { source += markup.source }

  /// Appends text.
  mutating func text(_ text: String) { source += text.escapedForMarkup }

  /// Appends an element that holds nothing but text.
  ///
  /// - Parameter attributes: As written in the tag. Their values come from this module only.
  mutating func element(_ name: String, _ attributes: String = "", text: String) {
    source += attributes.isEmpty ? "<\(name)>" : "<\(name) \(attributes)>"
    self.text(text)
    source += "</\(name)>"
  }

  /// Appends an element around what `content` writes.
  mutating func element(_ name: String, _ attributes: String = "", _ content: (inout Markup) -> Void) {
    source += attributes.isEmpty ? "<\(name)>" : "<\(name) \(attributes)>"
    content(&self)
    source += "</\(name)>"
  }
}

extension String {
  /// The text escaped for HTML, both between tags and in quoted attributes; invisible characters, and those that change
  /// text direction, are spelled out.
  package var escapedForMarkup: String {
    var result = ""
    for character in printable {
      switch character {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "'": result += "&#39;"
      default: result.append(character)
      }
    }
    return result
  }
}

extension Double {
  /// A coordinate, to a tenth of a unit: what a drawing of a thousand units can show.
  var coordinate: String { NumberText.trimmed(self, 1) }
}
