internal import ByteStreams
internal import ShardPlanning
public import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

extension CheckpointError.Code {
  /// A file's digest differs from the published one.
  public static let digestMismatch = Self(rawValue: "digestMismatch")
}

/// The conversion that a journal belongs to. Its records are meaningless to a run that would write other bytes.
struct JournalIdentity: Codable, Equatable {
  /// The toolkit's version.
  let tool: String
  /// The source's files with their sizes and the digests of their headers.
  let sources: [ShardPlan.SourceFile]
  /// What was asked for.
  private(set) var request: ShardPlan.Request
  /// Every name that is written, and so may be removed again.
  private(set) var listing: OutputListing
  /// XXH3-128 of the plan as JSON with sorted keys: covers everything not in the fields above, such as the rules of a
  /// recipe file. Whether non-finite weights are allowed is not part of it, because that may change when resuming.
  let plan: String
  /// The number of shares; `nil` if it is not divided.
  private(set) var shares: Int?
  /// The share that the journal belongs to; `nil` for the main journal.
  private(set) var share: Int?

  /// Whether non-finite weights were allowed.
  var allowsNonFinite: Bool { request.allowNonFinite }

  /// - Throws: `.invalidRequest` for a plan whose manifest would be too large to read.
  init(_ plan: ShardPlan, isArchive: Bool = false) throws(CheckpointError) {
    tool = plan.tool
    sources = plan.source.files
    request = plan.request
    listing = OutputListing(plan, isArchive: isArchive)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let encoded: [UInt8]
    do {
      encoded = Array(try encoder.encode(plan.allowingNonFinite(false)))
    } catch {
      preconditionFailure("a plan can always be encoded: \(error)")
    }
    try Manifest.requireReadable(plan, encoded: encoded)
    self.plan = "\(Digest.xxh3(of: encoded))"
  }

  /// Reads the identity that ``text`` wrote.
  ///
  /// - Throws: `.unsupported` if another version of the toolkit wrote it, `.malformed` if it is not one.
  init(reading text: [UInt8], expecting tool: String, path: String) throws(CheckpointError) {
    struct Version: Decodable { let tool: String }
    do {
      let written = try JSONDecoder().decode(Version.self, from: Data(text)).tool
      guard written == tool else {
        throw CheckpointError(
          .unsupported,
          "was begun by version \(written.printable) of step3-convert, but this is version \(tool)",
          path: path,
          remedy: "resume with that version, or start afresh with --overwrite")
      }
      self = try JSONDecoder().decode(JournalIdentity.self, from: Data(text))
    } catch let error as CheckpointError {
      throw error
    } catch {
      throw CheckpointError(
        .malformed, "the journal does not describe the conversion", path: path,
        remedy: "remove the directory yourself and start afresh")
    }
  }

  /// What an identity's conversion writes, for any version of the toolkit; `nil` if that cannot be determined.
  static func listing(reading text: [UInt8]) -> OutputListing? {
    struct Written: Decodable { let listing: OutputListing }
    let listing = try? JSONDecoder().decode(Written.self, from: Data(text)).listing
    return listing.flatMap { $0.isSound ? $0 : nil }
  }

  var text: [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      return Array(try encoder.encode(self))
    } catch {
      preconditionFailure("an identity can always be encoded: \(error)")
    }
  }
}

// MARK: - Shares

extension JournalContents {
  /// The number of shares; `nil` if it is not divided, or that cannot be determined.
  var shares: Int? {
    struct Written: Decodable { let shares: Int? }
    guard let identity, let written = try? JSONDecoder().decode(Written.self, from: Data(identity)),
      let count = written.shares, (1...ConversionShare.most).contains(count)
    else { return nil }
    return count
  }
}

extension JournalIdentity {
  /// The same for a conversion divided into shares.
  ///
  /// - Parameter share: The share that the journal belongs to; `nil` for the main journal.
  func divided(into count: Int, share: Int? = nil) -> JournalIdentity {
    var copy = self
    copy.shares = count
    copy.share = share
    copy.listing = listing.adding(shares: count)
    return copy
  }
}

// MARK: - Comparing

extension JournalIdentity {
  /// Checks that a run described by `current` would write the same bytes.
  ///
  /// - Throws: `.sourceChanged` or `.invalidRequest`, naming what differs.
  func check(against current: JournalIdentity, path: String) throws(CheckpointError) {
    guard shares == current.shares, share == current.share else {
      let what = shares.map { "was begun in \($0) shares" } ?? "was begun as a whole, not in shares"
      throw CheckpointError(
        .invalidRequest, what, path: path,
        remedy: shares.map { "run it with --share K/\($0), and with --seal when all are done" }
          ?? "go on with --resume, without --share")
    }
    try checkSources(current, path: path)
    var options: [String] = []
    if request.format != current.request.format { options.append("--to") }
    if request.recipe != current.request.recipe { options.append("--quantize, --scope or --tensor-type") }
    if request.scaleSearch != current.request.scaleSearch { options.append("--scale-search") }
    if request.partition != current.request.partition { options.append("the partition") }
    if request.maximumShardBytes != current.request.maximumShardBytes { options.append("--max-shard-size") }
    if request.tokenizerPre != current.request.tokenizerPre { options.append("--tokenizer-pre") }
    if request.exclude != current.request.exclude { options.append("--exclude") }
    if request.publishedNames != current.request.publishedNames { options.append("--published-names") }
    if listing.isArchive != current.listing.isArchive { options.append("--archive") }
    // Non-finite weights may be allowed from now on, but not the other way round.
    if allowsNonFinite, !current.allowsNonFinite, options.isEmpty { throw Self.lostPermission(path) }
    var others = request
    others.allowNonFinite = current.request.allowNonFinite
    if options.isEmpty, others != current.request { options.append("an option") }
    guard options.isEmpty else {
      throw CheckpointError(
        .invalidRequest, "was begun with other options: \(options.joined(separator: ", ")) differed",
        path: path, remedy: "give the options it was begun with, or start afresh with --overwrite")
    }
    guard plan == current.plan else {
      throw CheckpointError(
        .invalidRequest,
        "was begun with another plan: the recipe's rules or the source's configuration have changed since",
        path: path, remedy: "start afresh with --overwrite")
    }
  }

  /// The same, allowing non-finite weights.
  var allowingNonFinite: JournalIdentity {
    var copy = self
    copy.request.allowNonFinite = true
    return copy
  }

  /// The error for a conversion that allowed, or may have allowed, weights that it would now refuse.
  static func lostPermission(_ path: String) -> CheckpointError {
    CheckpointError(
      .invalidRequest, "was written with --allow-nonfinite, which is now missing", path: path,
      remedy: "give it again; to have such weights refused, remove this output or choose another one")
  }

  private func checkSources(_ current: JournalIdentity, path: String) throws(CheckpointError) {
    func changed(_ message: String) -> CheckpointError {
      CheckpointError(
        .sourceChanged, "the source has changed since this was begun: \(message)", path: path,
        remedy: "restore the source, or start afresh with --overwrite")
    }
    let before = Dictionary(sources.map { ($0.path, $0) }) { first, _ in first }
    for file in current.sources {
      guard let old = before[file.path] else { throw changed("\(file.path.printable) did not exist") }
      guard old.bytes == file.bytes else {
        throw changed("\(file.path.printable) had \(old.bytes) bytes and now has \(file.bytes)")
      }
      guard old == file else { throw changed("the header of \(file.path.printable) has changed") }
    }
    let now = Set(current.sources.map(\.path))
    if let gone = sources.first(where: { !now.contains($0.path) }) {
      throw changed("\(gone.path.printable) no longer exists")
    }
    guard sources == current.sources else { throw changed("its files are in another order") }
  }
}

extension ShardPlan {
  /// Whether a complete output of this plan also answers another: allowing non-finite weights makes no difference if
  /// there were none.
  func answers(_ wanted: ShardPlan) -> Bool {
    self == wanted || (wanted.request.allowNonFinite && self == wanted.allowingNonFinite(false))
  }

  fileprivate func allowingNonFinite(_ allows: Bool) -> ShardPlan {
    var copy = self
    copy.request.allowNonFinite = allows
    return copy
  }
}

extension Digest {
  /// XXH3-128 of bytes in one piece.
  static func xxh3(of bytes: RawSpan) -> Digest {
    var digester = XXH3Digester()
    digester.update(bytes)
    return digester.finalize()
  }

  /// XXH3-128 of an array.
  static func xxh3(of bytes: [UInt8]) -> Digest { unsafe xxh3(of: bytes.span.bytes) }
}
