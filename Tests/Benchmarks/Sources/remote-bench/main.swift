import ByteStreams
import Dispatch
import RemoteFiles
import Synchronization
import TensorFormats

// How fast a server's file is read, and how soon the headers of a model have arrived.
//
// Usage: remote-bench read ADDRESS FILE MEBIBYTES THREADS      reads of this many MiB from this many threads
//        remote-bench heads ADDRESS BYTES CONNECTIONS         the first bytes of every .safetensors file
//
// Tests/Benchmarks/remote.sh runs it beside aria2c.

func seconds(_ duration: Duration) -> Double {
  Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
}

func read(_ address: String, _ name: String, _ piece: Int, _ threads: Int) throws {
  let source = try RemoteDirectory(address).open(name)
  let count = (source.byteCount + piece - 1) / piece
  let next = Atomic(0)
  let failure = Mutex<(any Error)?>(nil)
  let group = DispatchGroup()
  let start = ContinuousClock.now
  for thread in 0..<threads {
    DispatchQueue(label: "remote-bench.\(thread)").async(group: group) {
      do {
        while true {
          let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
          guard index < count else { return }
          _ = try source.readBytes(index * piece..<min(source.byteCount, (index + 1) * piece))
        }
      } catch {
        failure.withLock { $0 = error }
      }
    }
  }
  group.wait()
  if let error = failure.withLock({ $0 }) { throw error }
  let time = seconds(ContinuousClock.now - start)
  print("\(Int(Double(source.byteCount) / time / 1e6)) MB/s, reads of \(piece >> 20) MiB, \(threads) threads")
}

func heads(_ address: String, _ byteCount: Int, _ connections: Int) throws {
  var options = RemoteOptions()
  options.headByteCount = byteCount
  options.connections = connections
  let start = ContinuousClock.now
  let directory = try RemoteDirectory(address, options: options)
  let sources = try directory.openAll(try directory.names().filter { $0.hasSuffix(".safetensors") })
  let time = seconds(ContinuousClock.now - start)
  print("\(sources.count) headers in \(time) s: \(byteCount) bytes each, \(connections) connections")
}

let arguments = CommandLine.arguments.dropFirst().map(\.self)
do {
  switch (arguments.first, arguments.count) {
  case ("read", 5):
    try read(arguments[1], arguments[2], (Int(arguments[3]) ?? 8) << 20, Int(arguments[4]) ?? 8)
  case ("heads", 4): try heads(arguments[1], Int(arguments[2]) ?? 256 << 10, Int(arguments[3]) ?? 32)
  default: print("usage: remote-bench read ADDRESS FILE MEBIBYTES THREADS | heads ADDRESS BYTES CONNECTIONS")
  }
} catch {
  print(error)
}
