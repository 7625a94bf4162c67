import Foundation
import FuzzSupport
import JSON
import TensorFormats

/// Any bytes as a JSON document: refused with an error and its byte offset, or read, and unchanged when written and read again.
func check(_ text: [UInt8]) {
  for dialect in [JSONDialect.strict, .python] {
    let value: JSONValue
    do {
      value = try JSONValue(parsing: text, dialect: dialect)
    } catch {
      require((0...text.count).contains(error.offset ?? -1), "an error is not placed in the text")
      continue
    }
    // Python's NaN and Infinity are written as strings.
    guard dialect == .strict else { continue }
    for written in [JSONText.document(value), Array(JSONText.compact(value).utf8)] {
      do {
        require(try JSONValue(parsing: written) == value, "what is written reads differently")
      } catch {
        fatalError("cannot read what was written: \(error)")
      }
      require(!written.contains(0x7F), "a report holds a control character")
    }
    require(value.sorted == value, "order makes a difference")
    let python = try? JSONValue(parsing: text, dialect: .python)
    require(python == value, "the wider dialect reads something else")
  }
}

exit(
  runFuzzer { bytes, count in
    check(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
  })
