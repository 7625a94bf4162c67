internal import TensorFormats

/// A checkpoint's own tokenizer: text to token ids and back, by byte-level byte-pair encoding.
///
/// Gives the same ids as the `tokenizers` library (0.23) for the same `tokenizer.json`. Anything that cannot be
/// reproduced exactly is refused when the tokenizer is read. Values can be used concurrently.
public struct Tokenizer: Sendable {
  /// The text of each token, by id; `nil` for ids that no token has.
  let texts: [String?]
  /// The id of each text.
  let ids: [Bytewise: Int32]
  /// The bytes that each token decodes to, by id.
  let decoded: [[UInt8]]
  /// Whether decoding can leave a token out, by id.
  let isSpecial: [Bool]
  let normalizer: Normalizer
  let preTokenizer: PreTokenizer
  let model: BytePairModel
  /// Tokens that are matched in the original text, and in normalised text.
  let addedTokens: AddedTokenFinder
  let normalizedAddedTokens: AddedTokenFinder
  /// The tokens added around a text, if special tokens are requested.
  let prefix: [Int]
  let suffix: [Int]
  /// Whether tokens are decoded as bytes; otherwise they are joined by spaces.
  let decodesBytes: Bool

  /// The number of tokens, including added ones.
  public let tokenCount: Int

  /// The lowest number above all ids. Greater than ``tokenCount`` if there are ids without a token.
  public var idLimit: Int { texts.count }

  /// The id of a token, by its text in the vocabulary (byte-level: a space is `Ġ`) or as an added token.
  public func id(of token: String) -> Int? { ids[Bytewise(text: token)].map { Int($0) } }

  /// The id of a special token, such as `<think>`; `nil` if there is no token of that text or it is not special.
  public func id(ofSpecial token: String) -> Int? {
    guard let id = id(of: token), isSpecial[id] else { return nil }
    return id
  }

  /// The text of a token as the vocabulary has it; `nil` for an id without a token.
  public func token(_ id: Int) -> String? { texts.indices.contains(id) ? texts[id] : nil }
}

extension Tokenizer {
  /// Builds a tokenizer from a definition and checks that its parts are consistent.
  init(_ definition: TokenizerDefinition) throws(CheckpointError) {
    var ids: [Bytewise: Int32] = [:]
    ids.reserveCapacity(definition.vocabulary.count)
    for (text, id) in definition.vocabulary {
      guard ids.updateValue(Int32(truncatingIfNeeded: id), forKey: Bytewise(text: text)) == nil else {
        throw CheckpointError(
          .malformed, "vocab: expected '\(text.printable)' once, found it again with id \(id)")
      }
    }
    let model = try BytePairModel(definition, ids)
    let added = try definition.numberedAddedTokens(ids)
    for token in added { ids[Bytewise(text: token.content)] = Int32(truncatingIfNeeded: token.id) }

    let highest = max(definition.vocabulary.map(\.id).max() ?? -1, added.map(\.id).max() ?? -1)
    guard highest < ids.count + Step3Tokenizer.largestPadding else {
      throw CheckpointError(
        .malformed, "vocab: expected ids near the number of tokens, \(ids.count), found \(highest)")
    }
    var texts = [String?](repeating: nil, count: highest + 1)
    for (text, id) in definition.vocabulary {
      if let earlier = texts[id] {
        throw CheckpointError(
          .malformed,
          "vocab: expected one token with id \(id), found '\(earlier.printable)' and '\(text.printable)'")
      }
      texts[id] = text
    }
    for token in added {
      if let earlier = texts[token.id], Bytewise(text: earlier) != Bytewise(text: token.content) {
        throw CheckpointError(
          .malformed,
          "added_tokens: expected one token with id \(token.id), found '\(earlier.printable)' and '\(token.content.printable)'"
        )
      }
      texts[token.id] = token.content
    }
    for id in definition.prefix + definition.suffix where id >= texts.count || texts[id] == nil {
      throw CheckpointError(.malformed, "post_processor: expected the id of a token, found \(id)")
    }

    // An added token decodes to its normalised text, and is skipped by that text too.
    var shown = texts
    var special = Set<Bytewise>()
    for token in added {
      if token.isNormalized { shown[token.id] = definition.normalizer.normalize(token.content) }
      if token.isSpecial { special.insert(Bytewise(text: token.content)) }
    }
    decoded = shown.map { text in
      guard let text else { return [] }
      return (definition.decodesBytes ? ByteAlphabet.bytes(of: text) : nil) ?? Array(text.utf8)
    }
    isSpecial = shown.map { text in text.map { special.contains(Bytewise(text: $0)) } ?? false }
    addedTokens = try AddedTokenFinder(added.filter { !$0.isNormalized })
    normalizedAddedTokens = try AddedTokenFinder(
      added.filter(\.isNormalized), normalizer: definition.normalizer)
    tokenCount = ids.count
    self.ids = ids
    self.texts = texts
    self.model = model
    normalizer = definition.normalizer
    preTokenizer = definition.preTokenizer
    prefix = definition.prefix
    suffix = definition.suffix
    decodesBytes = definition.decodesBytes
  }
}

extension BytePairModel {
  /// Resolves the texts in the definition.
  ///
  /// - Throws: `.malformed` for a merge of or into something that is not a token, and for an unknown token that is
  ///   not in the vocabulary.
  init(_ definition: TokenizerDefinition, _ ids: [Bytewise: Int32]) throws(CheckpointError) {
    func id(_ text: String, of merge: Int) throws(CheckpointError) -> Int32 {
      guard let id = ids[Bytewise(text: text)] else {
        throw CheckpointError(
          .malformed, "merges: number \(merge): '\(text.printable)' is not in the vocabulary")
      }
      return id
    }
    merges = [:]
    merges.reserveCapacity(definition.merges.count)
    for (rank, merge) in definition.merges.enumerated() {
      let (left, right) = (try id(merge.left, of: rank), try id(merge.right, of: rank))
      // A pair that appears twice gets its last rank, as in the reference.
      merges[Self.pair(left, right)] = Merge(
        rank: UInt32(truncatingIfNeeded: rank), id: try id(merge.left + merge.right, of: rank))
    }
    var unknown: Int?
    if let text = definition.unknownToken {
      guard let id = ids[Bytewise(text: text)] else {
        throw CheckpointError(.malformed, "unk_token: '\(text.printable)' is not in the vocabulary")
      }
      unknown = Int(id)
    }
    starts = []
    for scalar in ByteAlphabet.scalars {
      let text = String(Character(scalar))
      if let id = ids[Bytewise(text: text)] {
        starts.append(.token(Int(id)))
        continue
      }
      let names = text.utf8.map { "<0x\($0 < 16 ? "0" : "")\(String($0, radix: 16, uppercase: true))>" }
      let fallback = names.compactMap { ids[Bytewise(text: $0)].map { Int($0) } }
      if definition.usesByteFallback, fallback.count == names.count {
        starts.append(.fallback(fallback))
      } else {
        starts.append(unknown.map { .unknown($0) } ?? .dropped)
      }
    }
    fusesUnknown = definition.fusesUnknown
    wholeWords = nil
    guard definition.ignoresMerges else { return }
    var words = WordTable(minimumCapacity: definition.vocabulary.count)
    for (text, id) in definition.vocabulary {
      guard let bytes = ByteAlphabet.bytes(of: text), !bytes.isEmpty else { continue }
      words.insert(bytes.span, [id])
    }
    wholeWords = words
  }
}
