import Archives
import ByteStreams
import Foundation
import FuzzSupport
import TensorFormats

/// Any bytes as a `.zst` file: refused with an error, or read with the same result in every way.
func check(_ file: [UInt8]) {
  let memory = MemorySource(file)
  let sequential = try? SequentialZstdSource(memory)
  if let sequential, sequential.byteCount <= largest {
    _ = try? sequential.readBytes(0..<sequential.byteCount)
  }
  guard let source = try? ArchiveSource(memory) else { return }
  var end = 0
  for piece in source.pieces {
    require(piece.lowerBound == end && piece.upperBound > end, "the pieces do not follow each other")
    end = piece.upperBound
  }
  require(end == source.byteCount, "the pieces are not the whole")
  guard source.byteCount <= largest else { return }
  var pieces: [UInt8] = []
  for piece in source.pieces {
    guard let bytes = try? source.readBytes(piece) else { break }
    pieces += bytes
  }
  let whole = try? source.readBytes(0..<source.byteCount)
  require((whole != nil) == (pieces.count == source.byteCount), "a piece is readable by itself only")
  if let whole { require(whole == pieces, "pieces differ from the whole") }
  if pieces.count > 2 {
    let middle = pieces.count / 3..<pieces.count - 1
    require((try? source.readBytes(middle)) == Array(pieces[middle]), "a part differs from the whole")
  }
  if let whole, let sequential, sequential.byteCount == source.byteCount,
    let bytes = try? sequential.readBytes(0..<sequential.byteCount)
  {
    require(bytes == whole, "from the start it reads differently")
  }
}

/// The most that is decoded here: the fuzzer allows 512 MB.
let largest = 1 << 24

exit(
  runFuzzer { bytes, count in
    check(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
  })
