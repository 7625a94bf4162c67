internal import ByteStreams
internal import ShardPlanning
public import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

extension CheckpointError.Code {
  /// A file's digest is not the one that was published for it.
  public static let digestMismatch = Self(rawValue: "digestMismatch")
}

/// What a journal's records are about. They mean nothing to a run that would write other bytes.
struct JournalIdentity: Codable, Equatable {
  /// The toolkit's version.
  let tool: String
  /// The source's files with their sizes and the digests of their headers.
  let sources: [ShardPlan.SourceFile]
  /// What was asked for.
  private(set) var request: ShardPlan.Request
  /// Every name that is written: what may be removed again.
  private(set) var listing: OutputListing
  /// XXH3-128 of the plan as JSON with sorted keys: stands for all that the fields above do not name, such as the
  /// rules of a recipe file. Whether weights that are no numbers are let through is no part of it, because that may
  /// change on the way.
  let plan: String
  /// How many shares it is divided into; `nil` for one that is not.
  private(set) var shares: Int?
  /// Which of them the journal is of; `nil` for that of all.
  private(set) var share: Int?

  /// Whether weights that are no numbers were let through.
  var allowsNonFinite: Bool { request.allowNonFinite }

  /// - Throws: `.invalidRequest` for a plan of which there would be no manifest that can be read.
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
  /// - Throws: `.unsupported` if another version of the toolkit wrote it, `.malformed` if it is none.
  init(reading text: [UInt8], expecting tool: String, path: String) throws(CheckpointError) {
    struct Version: Decodable { let tool: String }
    do {
      let written = try JSONDecoder().decode(Version.self, from: Data(text)).tool
      guard written == tool else {
        throw CheckpointError(
          .unsupported,
          "was begun by version \(written.printable) of step3-convert, this is version \(tool)", path: path,
          remedy: "go on with that version, or start afresh with --overwrite")
      }
      self = try JSONDecoder().decode(JournalIdentity.self, from: Data(text))
    } catch let error as CheckpointError {
      throw error
    } catch {
      throw CheckpointError(
        .malformed, "the journal does not say what is converted", path: path,
        remedy: "remove the directory yourself and start afresh")
    }
  }

  /// What the conversion of an identity writes, whatever version of the toolkit wrote it; `nil` if that cannot be told.
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
  /// How many shares the conversion is divided into; `nil` for one that is not, or of which that cannot be told.
  var shares: Int? {
    struct Written: Decodable { let shares: Int? }
    guard let identity, let written = try? JSONDecoder().decode(Written.self, from: Data(identity)),
      let count = written.shares, (1...ConversionShare.most).contains(count)
    else { return nil }
    return count
  }
}

extension JournalIdentity {
  /// The same for a conversion that is divided into shares.
  ///
  /// - Parameter share: The share whose journal it is; `nil` for the journal of all.
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
    // What was refused so far may be let through from here on, but not the other way round.
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

  /// The same, where weights that are no numbers are let through.
  var allowingNonFinite: JournalIdentity {
    var copy = self
    copy.request.allowNonFinite = true
    return copy
  }

  /// The error for a conversion that let weights through, or may have, which it would refuse now.
  static func lostPermission(_ path: String) -> CheckpointError {
    CheckpointError(
      .invalidRequest, "was written with --allow-nonfinite, which is not given now", path: path,
      remedy: "give it again; to have such weights refused, remove this output or choose another one")
  }

  private func checkSources(_ current: JournalIdentity, path: String) throws(CheckpointError) {
    func changed(_ message: String) -> CheckpointError {
      CheckpointError(
        .sourceChanged, "the source has changed since this was begun: \(message)", path: path,
        remedy: "bring the source back, or start afresh with --overwrite")
    }
    let before = Dictionary(sources.map { ($0.path, $0) }) { first, _ in first }
    for file in current.sources {
      guard let old = before[file.path] else { throw changed("\(file.path.printable) was not there") }
      guard old.bytes == file.bytes else {
        throw changed("\(file.path.printable) had \(old.bytes) bytes and has \(file.bytes)")
      }
      guard old == file else { throw changed("\(file.path.printable) has another header") }
    }
    let now = Set(current.sources.map(\.path))
    if let gone = sources.first(where: { !now.contains($0.path) }) {
      throw changed("\(gone.path.printable) is gone")
    }
    guard sources == current.sources else { throw changed("its files are in another order") }
  }
}

extension ShardPlan {
  /// Whether a complete output of this plan is one of another, too: where nothing had to be let through, it does not
  /// matter that it may be.
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
  /// XXH3-128 of bytes that are there in one piece.
  static func xxh3(of bytes: RawSpan) -> Digest {
    var digester = XXH3Digester()
    digester.update(bytes)
    return digester.finalize()
  }

  /// XXH3-128 of an array.
  static func xxh3(of bytes: [UInt8]) -> Digest { unsafe xxh3(of: bytes.span.bytes) }
}
