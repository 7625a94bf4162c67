#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

extension FileSystem {
  /// The target of a symbolic link, as written in the link; `nil` if it is not a link.
  public static func linkDestination(of path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = unsafe buffer.withUnsafeMutableBytes { bytes in
      unsafe readlink(
        path, bytes.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: CChar.self), bytes.count)
    }
    guard count > 0, count < buffer.count else { return nil }
    return String(decoding: buffer[..<count], as: UTF8.self)
  }
}
