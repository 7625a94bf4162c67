import Foundation
import StoredWeights
import Step3Runtime
import Testing
import Checkpoint

/// The documented wire format, implemented a second time: tests use it to talk to servers and sessions.
struct RawWire {
  let descriptor: Int32

  struct Message {
    var kind: UInt16
    var payload: [UInt8]
  }

  static func pair() throws -> (RawWire, RawWire) {
    var pair: [Int32] = [0, 0]
    #if os(Linux)
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    #else
    let type = SOCK_STREAM
    #endif
    try #require(socketpair(AF_UNIX, type, 0, &pair) == 0)
    return (RawWire(descriptor: pair[0]), RawWire(descriptor: pair[1]))
  }

  func close() { shutdown(descriptor, Int32(SHUT_RDWR)); _ = Foundation.close(descriptor) }

  func write(_ bytes: [UInt8]) {
    var done = 0
    while done < bytes.count {
      #if os(Linux)
      let flags = Int32(MSG_NOSIGNAL)
      #else
      let flags: Int32 = 0
      #endif
      let count = bytes.withUnsafeBytes {
        Foundation.send(descriptor, $0.baseAddress! + done, bytes.count - done, flags)
      }
      guard count > 0 else { return }
      done += count
    }
  }

  func send(_ message: Message) { write(Self.header(message.kind, message.payload.count) + message.payload) }

  func send(_ kind: UInt16, _ payload: [UInt8]) { send(Message(kind: kind, payload: payload)) }

  static func header(_ kind: UInt16, _ length: Int, magic: String = "S3FF", version: UInt16 = 1) -> [UInt8] {
    Array(magic.utf8) + little(version) + little(kind) + little(UInt64(length))
  }

  /// `nil` at the end, even in the middle of a message, and for invalid messages.
  func receive() -> Message? {
    guard let header = read(16), Array(header.prefix(6)) == Array("S3FF".utf8) + [1, 0],
      let payload = read(Self.integer(header, 8, 8))
    else { return nil }
    return Message(kind: UInt16(Self.integer(header, 6, 2)), payload: payload)
  }

  private func read(_ count: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    var done = 0
    while done < count {
      let got = bytes.withUnsafeMutableBytes {
        Foundation.read(descriptor, $0.baseAddress! + done, count - done)
      }
      guard got > 0 else { return nil }
      done += got
    }
    return bytes
  }

  static func little(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }

  static func integer(_ bytes: [UInt8], _ first: Int, _ count: Int) -> Int {
    (0..<count).reduce(0) { $0 | Int(bytes[first + $1]) << (8 * $1) }
  }

  static func floats(_ bytes: some Collection<UInt8>) -> [Float] {
    let bytes = Array(bytes)
    return stride(from: 0, to: bytes.count, by: 4).map {
      Float(bitPattern: UInt32(truncatingIfNeeded: integer(bytes, $0, 4)))
    }
  }

  static func bytes(_ values: [Float]) -> [UInt8] { values.flatMap { little($0.bitPattern) } }
}

/// Serves a part on a thread of this process and gives the other end of the connection.
func serve(_ part: String, finished: (@Sendable ((any Error)?) -> Void)? = nil) throws -> RawWire {
  let server = try FFNServer(ModelWeights(Checkpoint.open(part)), Products(threads: 1))
  let (own, other) = try RawWire.pair()
  let descriptor = other.descriptor
  Thread.detachNewThread {
    do {
      try server.serve(descriptor: descriptor)
      finished?(nil)
    } catch { finished?(error) }
  }
  return own
}

/// A proxy between a session and a rank that passes messages on, changed where a test wants it.
func proxy(
  _ rank: RawWire, request: @escaping @Sendable (RawWire.Message) -> RawWire.Message = { $0 },
  reply: @escaping @Sendable (RawWire.Message) -> RawWire.Message = { $0 }
) throws -> Int32 {
  let (own, other) = try RawWire.pair()
  func pump(
    _ from: RawWire, _ to: RawWire, _ change: @escaping @Sendable (RawWire.Message) -> RawWire.Message
  ) {
    Thread.detachNewThread {
      while let message = from.receive() { to.send(change(message)) }
      shutdown(to.descriptor, Int32(SHUT_RDWR))
      shutdown(from.descriptor, Int32(SHUT_RDWR))
    }
  }
  pump(own, rank, request)
  pump(rank, own, reply)
  return other.descriptor
}
