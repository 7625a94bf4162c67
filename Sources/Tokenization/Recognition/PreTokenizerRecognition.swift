internal import ByteStreams
public import TensorFormats

/// Finds the GGUF name of a `tokenizer.json`'s pre-tokenizer.
///
/// Names are determined by the tokenizer's behaviour, as in llama.cpp's converter: a text is encoded, and the digest of
/// its ids looked up. That only works for vocabularies as published. For any other, the split itself is compared with
/// the known ones, on that text and on a few thousand contexts of all kinds of characters. A split that differs from
/// all of them still gets a name if no token of the vocabulary would show the difference. Everything else is refused:
/// with a wrong name, every reader would silently encode text differently from what the model was trained on.
public struct PreTokenizerRecognition: Hashable, Sendable {
  /// The value for `tokenizer.ggml.pre`.
  public let name: String
  /// Remaining differences in GGUF readers.
  public let notes: [Step3Tokenizer.Note]

  /// Recognises a tokenizer.
  ///
  /// - Parameters:
  ///   - tokenizerJSON: The bytes of `tokenizer.json`.
  ///   - tokenizerConfigJSON: The bytes of `tokenizer_config.json`, which may add tokens around texts.
  /// - Throws: `.unsupported` for a split without a known name or with unsupported parts; `.malformed` for a
  ///   broken document.
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
          "there is none, as in GGUF readers; converted back to tokenizer.json, \(name) has NFC")
      ]
    }
    let forms = normalizer.forms.map(\.rawValue).joined(separator: ", ")
    return [
      Step3Tokenizer.Note(
        "normalizer \(forms)",
        "GGUF readers do not normalise text; this only matters for decomposed characters"
      )
    ]
  }

  private static func divisionNote(_ name: String) -> Step3Tokenizer.Note {
    Step3Tokenizer.Note(
      "pre_tokenizer",
      "stored as \(name), which splits text differently, but gives the same tokens for any text that this vocabulary can represent"
    )
  }

  /// The same error with a remedy.
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

  /// The SHA-256 of a list of ids as printed by Python.
  package static func digest(of ids: [Int]) -> String {
    Digest.sha256(of: Array("[\(ids.map(String.init).joined(separator: ", "))]".utf8)).description
  }

  // MARK: By the division

  /// The name, and whether its split is the same for all texts.
  private static func name(
    of definition: TokenizerDefinition
  ) throws(CheckpointError) -> (name: String, isSameDivision: Bool) {
    guard definition.normalizer.isIdentity || definition.normalizer.forms == [.nfc] else {
      let forms = definition.normalizer.forms.map(\.rawValue).joined(separator: ", ")
      throw CheckpointError(
        .unsupported,
        "tokenizer.json: normalizer: expected none or NFC, found \(forms), which have no name in GGUF")
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
      "tokenizer.json: pre_tokenizer (with ignore_merges \(definition.ignoresMerges)): its tokens differ from those of every pre-tokenizer with a GGUF name that is implemented here"
    )
  }

  /// The words of every text, by their end offsets, including the effect of a prefix space.
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

  /// Whether merging gives a different result for some word that is a token.
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
      // Only possible words can be used directly.
      var words = 0
      try definition.preTokenizer.forEachWord(of: bytes, 0..<bytes.count) { _ in words += 1 }
      if words == 1 { return true }
    }
    return false
  }
}
