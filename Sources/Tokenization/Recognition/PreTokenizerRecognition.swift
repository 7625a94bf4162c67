internal import ByteStreams
public import TensorFormats

/// Finds the name under which readers of GGUF know what a `tokenizer.json` does to text before pairs are joined.
///
/// Names are told apart by what the tokenizer does, as llama.cpp's converter does: a text is encoded, and the digest of
/// its ids looked up. That is of use only for vocabularies as they were published. For any other, the division itself is
/// compared with the known ones, on that text and on a few thousand neighbourhoods of all kinds of characters. A division
/// that differs from all of them has a name nevertheless if the vocabulary has no token that would show it. Everything
/// else is refused: under a wrong name every reader would encode text differently from what the model was trained on,
/// without a sign of it.
public struct PreTokenizerRecognition: Hashable, Sendable {
  /// The value for `tokenizer.ggml.pre`.
  public let name: String
  /// What a reader of GGUF will do otherwise nevertheless.
  public let notes: [Step3Tokenizer.Note]

  /// Recognises a tokenizer.
  ///
  /// - Parameters:
  ///   - tokenizerJSON: The bytes of `tokenizer.json`.
  ///   - tokenizerConfigJSON: The bytes of `tokenizer_config.json`, which may put tokens around texts.
  /// - Throws: `.unsupported` for a division that no known name stands for, or whose parts are not known here;
  ///   `.malformed` for a broken document.
  /// - Complexity: O(n) in the length of the documents.
  public init(tokenizerJSON: [UInt8], tokenizerConfigJSON: [UInt8]? = nil) throws(CheckpointError) {
    do throws(CheckpointError) {
      let definition = try TokenizerDocument(tokenizerJSON, isForText: true).definition
      let digest = Self.digest(tokenizerJSON, tokenizerConfigJSON)
      if let digest, let published = PreTokenizerDigests.names[digest] {
        (name, notes) = (published, Self.normalizerNotes(definition.normalizer, published))
      } else {
        let (name, isSameDivision) = try Self.name(of: definition)
        self.name = name
        notes =
          Self.normalizerNotes(definition.normalizer, name)
          + (isSameDivision ? [] : [Self.divisionNote(name)])
      }
    } catch {
      throw error.code == .unsupported ? Self.refusal(error) : error
    }
  }

  private static func normalizerNotes(_ normalizer: Normalizer, _ name: String) -> [Step3Tokenizer.Note] {
    if normalizer.isIdentity {
      guard KnownPreTokenizer.named(name)?.normalizes == true else { return [] }
      return [
        Step3Tokenizer.Note(
          "normalizer",
          "there is none, as readers of GGUF have it; turned back into tokenizer.json, \(name) has NFC")
      ]
    }
    let forms = normalizer.forms.map(\.rawValue).joined(separator: ", ")
    return [
      Step3Tokenizer.Note(
        "normalizer \(forms)",
        "readers of GGUF do not bring text into this form; it makes a difference for decomposed characters only"
      )
    ]
  }

  private static func divisionNote(_ name: String) -> Step3Tokenizer.Note {
    Step3Tokenizer.Note(
      "pre_tokenizer",
      "stated as \(name), which divides text otherwise; no text that this vocabulary can write has other tokens then"
    )
  }

  /// The same error with the way out.
  private static func refusal(_ error: CheckpointError) -> CheckpointError {
    var error = error
    error.remedy =
      "give the name with --tokenizer-pre NAME, one of: \(KnownPreTokenizer.readersNames.joined(separator: ", "))"
    return error
  }

  // MARK: By ids

  /// The digest of the ids of ``checkText``; `nil` for a tokenizer that cannot encode it here.
  private static func digest(_ document: [UInt8], _ companion: [UInt8]?) -> String? {
    guard let tokenizer = try? Tokenizer(tokenizerJSON: document, tokenizerConfigJSON: companion),
      let ids = try? tokenizer.encode(checkText, addSpecialTokens: true)
    else { return nil }
    return digest(of: ids)
  }

  /// The SHA-256 of a list of ids, written as Python prints it.
  package static func digest(of ids: [Int]) -> String {
    Digest.sha256(of: Array("[\(ids.map(String.init).joined(separator: ", "))]".utf8)).description
  }

  // MARK: By the division

  /// The name, and whether it stands for the same division in all texts.
  private static func name(
    of definition: TokenizerDefinition
  ) throws(CheckpointError) -> (name: String, isSameDivision: Bool) {
    guard definition.normalizer.isIdentity || definition.normalizer.forms == [.nfc] else {
      let forms = definition.normalizer.forms.map(\.rawValue).joined(separator: ", ")
      throw CheckpointError(
        .unsupported,
        "tokenizer.json: normalizer: expected none or NFC, found \(forms), for which GGUF has no name")
    }
    let found = try divisions(by: definition.preTokenizer)
    var mergesDecide: Bool?
    for known in KnownPreTokenizer.all {
      guard try divides(try PreTokenizer(known), as: found) else { continue }
      if known.ignoresMerges != definition.ignoresMerges {
        if mergesDecide == nil { mergesDecide = try ignoringMergesMatters(definition) }
        if mergesDecide == true { continue }
      }
      return (known.names[0], true)
    }
    let comparison = try EncodingComparison(definition)
    for known in KnownPreTokenizer.all where try comparison.isSame(as: known) {
      return (known.names[0], false)
    }
    throw CheckpointError(
      .unsupported,
      "tokenizer.json: pre_tokenizer (with ignore_merges \(definition.ignoresMerges)): gives other tokens than all those for which a name in GGUF is known here"
    )
  }

  /// The words of every text, by the offsets at which they end; what a prefix space adds shows in them too.
  private static func divisions(by preTokenizer: PreTokenizer) throws(CheckpointError) -> [[Int]] {
    var result: [[Int]] = []
    for text in [checkText] + probes { result.append(try ends(of: text, by: preTokenizer)) }
    return result
  }

  private static func divides(
    _ preTokenizer: PreTokenizer, as found: [[Int]]
  ) throws(CheckpointError) -> Bool {
    for (text, ends) in zip([checkText] + probes, found)
    where try Self.ends(of: text, by: preTokenizer) != ends {
      return false
    }
    return true
  }

  private static func ends(of text: String, by preTokenizer: PreTokenizer) throws(CheckpointError) -> [Int] {
    let bytes = Array(text.utf8)
    var ends: [Int] = []
    var end = 0
    try preTokenizer.forEachWord(of: bytes, 0..<bytes.count) { word in
      end += word.count
      ends.append(end)
    }
    return ends
  }

  /// Whether some word that is a token is not what its pairs are joined to.
  private static func ignoringMergesMatters(_ definition: TokenizerDefinition) throws(CheckpointError) -> Bool
  {
    var plain = definition
    plain.ignoresMerges = false
    var ids: [Bytewise: Int32] = [:]
    for (text, id) in definition.vocabulary { ids[Bytewise(text: text)] = Int32(truncatingIfNeeded: id) }
    var encoder = BytePairEncoder(try BytePairModel(plain, ids))
    let added = Set(definition.addedTokens.map { Bytewise(text: $0.content) })
    for (text, id) in definition.vocabulary where !added.contains(Bytewise(text: text)) {
      guard let bytes = ByteAlphabet.bytes(of: text), !bytes.isEmpty else { continue }
      var found: [Int] = []
      encoder.encode(bytes.span, to: &found)
      guard found != [id], String(validating: bytes, as: UTF8.self) != nil else { continue }
      // Only what can be a word can be taken whole.
      var words = 0
      try definition.preTokenizer.forEachWord(of: bytes, 0..<bytes.count) { _ in words += 1 }
      if words == 1 { return true }
    }
    return false
  }
}
