internal import TensorFormats

/// A piece of HTML or SVG that is being written. Text gets in through ``text(_:)`` and ``element(_:_:text:)``, which
/// escape it, so that no name out of a file can become markup.
struct Markup {
  private(set) var source = ""

  /// Appends what is markup already.
  mutating func raw(_ markup: String) { source += markup }

  /// Appends the markup of another piece.
  mutating func raw(_ markup: Markup) { source += markup.source }

  /// Appends text.
  mutating func text(_ text: String) { source += text.escapedForMarkup }

  /// Appends an element that holds nothing but text.
  ///
  /// - Parameter attributes: As they stand in the tag. Their values are this module's own.
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
  /// The text without what HTML takes for markup, between tags and in quoted attributes alike; what cannot be seen, and
  /// what turns the direction of a line, is spelled out.
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
