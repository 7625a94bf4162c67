import Foundation
import NIOCore
import Synchronization

/// The files served: `ROOT/OWNER/NAME/...`. A file whose SHA-256 is in `ROOT/OWNER/NAME/.sha256/FILE` counts as
/// stored in Git LFS.
final class Store: Sendable {
  struct File: Sendable {
    var bytes: ByteBuffer
    var sha256: String
    var isLarge: Bool
  }

  /// The current commit of every repository.
  let commit = "0123456789abcdef0123456789abcdef01234567"
  private let root: String
  private let files = Mutex<[String: File]>([:])

  init(_ root: String) { self.root = root }

  func has(_ repository: String) -> Bool { FileManager.default.fileExists(atPath: "\(root)/\(repository)") }

  func file(_ components: [String]) -> File? {
    guard !components.contains(".."), !components.isEmpty else { return nil }
    let path = "\(root)/\(components.joined(separator: "/"))"
    if let file = files.withLock({ $0[path] }) { return file }
    guard let data = FileManager.default.contents(atPath: path) else { return nil }
    let digest = Self.digest(path)
    let file = File(
      bytes: ByteBuffer(bytes: data), sha256: digest ?? String(repeating: "0", count: 64),
      isLarge: digest != nil)
    files.withLock { $0[path] = file }
    return file
  }

  private static func digest(_ path: String) -> String? {
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    let digests = (parts.dropLast() + [".sha256", parts.last!]).joined(separator: "/")
    return FileManager.default.contents(atPath: digests)
      .map { String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines) }
  }

  /// A stand-in for Git's blob identifier: 40 digits derived from the file's bytes.
  private static func identifier(_ path: String) -> String {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in FileManager.default.contents(atPath: path)?.prefix(1 << 20) ?? Data() {
      hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3
    }
    let digits = String(hash, radix: 16)
    return String(repeating: "a", count: 40 - digits.count) + digits
  }

  func revision(_ repository: String) -> [UInt8] {
    let names = FileManager.default.subpaths(atPath: "\(root)/\(repository)") ?? []
    let siblings = names.filter { name in
      var isDirectory: ObjCBool = false
      _ = FileManager.default.fileExists(atPath: "\(root)/\(repository)/\(name)", isDirectory: &isDirectory)
      return !name.contains(".sha256") && !isDirectory.boolValue
    }.sorted().map { "{\"rfilename\":\"\($0)\"}" }
    return Array(
      "{\"id\":\"\(repository)\",\"sha\":\"\(commit)\",\"siblings\":[\(siblings.joined(separator: ","))]}"
        .utf8)
  }

  /// The entries of a directory, each as JSON; `nil` if there is no such directory.
  func tree(_ repository: String, _ directory: [String]) -> [String]? {
    let place = ([root, repository] + directory).joined(separator: "/")
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: place) else { return nil }
    return names.sorted().compactMap { name in
      guard name != ".sha256" else { return nil }
      let path = (directory + [name]).joined(separator: "/")
      var isDirectory: ObjCBool = false
      _ = FileManager.default.fileExists(atPath: "\(place)/\(name)", isDirectory: &isDirectory)
      if isDirectory.boolValue {
        return "{\"type\":\"directory\",\"oid\":\"1\",\"size\":0,\"path\":\"\(path)\"}"
      }
      let attributes = try? FileManager.default.attributesOfItem(atPath: "\(place)/\(name)")
      let size = (attributes?[.size] as? NSNumber)?.intValue ?? 0
      let digest = Self.digest("\(place)/\(name)")
      let lfs = digest.map { ",\"lfs\":{\"oid\":\"\($0)\",\"size\":\(size),\"pointerSize\":134}" } ?? ""
      return
        "{\"type\":\"file\",\"oid\":\"\(Self.identifier("\(place)/\(name)"))\",\"size\":\(size)\(lfs),\"path\":\"\(path)\"}"
    }
  }

  /// The files of a directory as ModelScope lists them.
  func modelScopeList(_ components: [String]) -> [String]? {
    let place = ([root] + components).joined(separator: "/")
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: place) else { return nil }
    return names.sorted().compactMap { name in
      guard name != ".sha256" else { return nil }
      var isDirectory: ObjCBool = false
      _ = FileManager.default.fileExists(atPath: "\(place)/\(name)", isDirectory: &isDirectory)
      if isDirectory.boolValue { return "{\"Name\":\"\(name)\",\"Type\":\"tree\",\"Size\":0}" }
      let attributes = try? FileManager.default.attributesOfItem(atPath: "\(place)/\(name)")
      let size = (attributes?[.size] as? NSNumber)?.intValue ?? 0
      let digest = Self.digest("\(place)/\(name)").map { ",\"Sha256\":\"\($0)\"" } ?? ""
      return "{\"Name\":\"\(name)\",\"Path\":\"\(name)\",\"Type\":\"blob\",\"Size\":\(size)\(digest)}"
    }
  }
}
