internal import JSON
internal import TensorFormats

/// A server's explanation of a failure.
enum ServerWords {
  /// One sentence; `nil` if there is none that helps.
  static func text(_ head: ResponseHead, _ body: [UInt8]) -> String? {
    if let message = head["x-error-message"] { return shortened(message) }
    guard !body.isEmpty, let text = String(validating: body.prefix(4096), as: UTF8.self)?.trimmed else {
      return nil
    }
    if text.hasPrefix("{"), let value = try? JSONValue(parsing: body) {
      let members = [value["error"], value["Message"], value["message"], value["detail"]]
      return (members.lazy.compactMap { $0?.text ?? $0?["message"]?.text }.first).map(shortened)
    }
    // Object stores answer in XML; the rest of it repeats the request, including its signature.
    let parts = ["Code", "Message"].compactMap { element($0, in: String(text)) }
    if !parts.isEmpty { return shortened(parts.joined(separator: ": ")) }
    if text.hasPrefix("<") { return head.contentType == "text/html" ? "an HTML page" : nil }
    return head.contentType == "text/plain" ? shortened(String(text)) : nil
  }

  private static func element(_ name: String, in text: String) -> String? {
    guard let start = text.range(of: "<\(name)>"),
      let end = text[start.upperBound...].range(of: "</\(name)>")
    else { return nil }
    return String(text[start.upperBound..<end.lowerBound])
  }

  private static func shortened(_ text: String) -> String { String(text.prefix(160)) }
}
