internal import JSON
internal import TensorFormats

/// Where chat templates are found, and which is used if there are several.
///
/// `chat_template.jinja` is what newer versions of `transformers` write and read first. `chat_template.json` belongs to
/// the processor of a multimodal model, and is used if the tokenizer has no template of its own.
///
/// Sources: `SpecialVocab` of the `gguf` package 0.19; `PreTrainedTokenizerBase._from_pretrained` of `transformers` 5.
extension Step3Tokenizer {
  /// The templates of one file.
  private struct Templates: Equatable {
    var file: String
    var usual: String?
    var named: [ChatTemplate] = []
  }

  mutating func readChatTemplates(
    _ documents: Documents, _ companion: JSONObject?
  ) throws(CheckpointError) {
    var sources: [Templates] = []
    if let bytes = documents.chatTemplate {
      let file = "chat_template.jinja"
      sources.append(Templates(file: file, usual: try Self.text(bytes, file)))
    }
    if let companion, let templates = try Self.templates(companion, "tokenizer_config.json") {
      sources.append(templates)
    }
    let file = "chat_template.json"
    if let object = try Self.object(documents.chatTemplateJSON, file),
      let templates = try Self.templates(object, file)
    {
      sources.append(templates)
    }
    if let first = sources.first {
      chatTemplate = first.usual
      for template in first.named { add(template) }
      for other in sources.dropFirst() where other.usual != first.usual || other.named != first.named {
        readingNotes.append(
          Note(
            "chat template of \(other.file)", "\(first.file) has a different one, which transformers prefers")
        )
      }
    }
    for (name, bytes) in documents.namedChatTemplates {
      let text = try Self.text(bytes, "additional_chat_templates/\(name).jinja")
      if name == "default", chatTemplate == nil {
        chatTemplate = text
      } else {
        add(ChatTemplate(name: name, text: text))
      }
    }
  }

  private static func text(_ bytes: [UInt8], _ file: String) throws(CheckpointError) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw CheckpointError(.malformed, "\(file): expected UTF-8 text, found other bytes")
    }
    return text
  }

  /// A string, a list of objects with `name` and `template`, or an object from name to template.
  private static func templates(_ object: JSONObject, _ file: String) throws(CheckpointError) -> Templates? {
    let key = "chat_template"
    var result = Templates(file: file)
    var named: [ChatTemplate] = []
    switch object.value(key) {
    case nil: return nil
    case .string(let text)?:
      result.usual = text
      return result
    case .array(let items)?:
      for (index, item) in items.enumerated() {
        let entry = try JSONObject(item, place: "\(object.place)\(key)[\(index)].")
        guard let name = try entry.string("name"), let text = try entry.string("template") else {
          throw CheckpointError(
            .malformed, "\(entry.place) expected name and template, found only one or neither")
        }
        named.append(ChatTemplate(name: name, text: text))
      }
    case .object(let members)?:
      for (name, value) in members.sorted(by: { $0.key < $1.key }) {
        guard case .string(let text) = value else {
          throw object.mismatch("\(key).\(name)", "a chat template", value)
        }
        named.append(ChatTemplate(name: name, text: text))
      }
    case let other?:
      throw object.mismatch(key, "a chat template or a list of them", other)
    }
    result.usual = named.last { $0.name == "default" }?.text
    result.named = named.filter { $0.name != "default" }
    return result
  }

  /// Adds a template under a name valid in a GGUF key: letters, digits and `_`, as in the `gguf` package.
  private mutating func add(_ template: ChatTemplate) {
    let name = String(
      String.UnicodeScalarView(
        template.name.unicodeScalars.map { scalar in
          switch scalar {
          case "a"..."z", "A"..."Z", "0"..."9": scalar
          default: "_"
          }
        }))
    let reason: String
    if name.isEmpty {
      reason = "it has no name, which a GGUF requires"
    } else if let known = namedChatTemplates.first(where: { $0.name == name }) {
      guard known.text != template.text else { return }
      reason = "another template is also called \(name) in a GGUF"
    } else {
      namedChatTemplates.append(ChatTemplate(name: name, text: template.text))
      return
    }
    readingNotes.append(Note("chat template '\(template.name.printable)'", reason))
  }
}
