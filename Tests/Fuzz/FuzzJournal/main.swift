import Conversion
import Foundation
import FuzzSupport
import TensorFormats

/// The frames that an input encodes: two bytes of length, one of kind, then the body. The checksums are added
/// here, because no mutation would find them.
func framed(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
  var rest = bytes
  var journal = JournalFormat.title
  while rest.count >= 3 {
    let length = min(Int(rest.removeFirst()) | Int(rest.removeFirst()) << 8, rest.count - 1)
    let kind = JournalFormat.Kind(rawValue: rest.removeFirst() % 9) ?? .units
    journal += JournalFormat.frame(kind, Array(rest.prefix(length)))
    rest = rest.dropFirst(length)
  }
  return journal
}

/// Any bytes as a journal: refused with an error, or read up to its first torn frame, wherever it is cut.
func check(_ journal: [UInt8]) {
  guard let contents = try? JournalContents(journal, path: "journal") else { return }
  require(contents.intactByteCount <= journal.count, "more is intact than there is")
  require(contents.recordsStart <= contents.intactByteCount, "records begin behind what is intact")
  let intact = Array(journal[..<contents.intactByteCount])
  guard let again = try? JournalContents(intact, path: "journal") else {
    // Only the title frame may be followed by a torn frame.
    return require(contents.identity == nil, "what is intact is refused")
  }
  require(
    again.identity == contents.identity && again.units.count == contents.units.count
      && again.intactByteCount == intact.count, "what is torn off makes a difference")
  // A crash tears the last frame: it adds nothing, and nothing before it is lost.
  if let cut = try? JournalContents(Array(intact.dropLast()), path: "journal"), !intact.isEmpty {
    require(
      cut.intactByteCount < contents.intactByteCount && cut.units.count <= contents.units.count,
      "a torn journal says more than a whole one")
  }
}

exit(
  runFuzzer { bytes, count in
    let input = Array(UnsafeBufferPointer(start: bytes, count: count))
    // By their first byte, half of the inputs are used as they are, so that raw files reach the reader too.
    guard let first = input.first, first & 1 == 0 else {
      check(input)
      return 0
    }
    check(framed(input.dropFirst()))
    return 0
  })
