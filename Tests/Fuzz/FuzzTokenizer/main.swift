import ByteStreams
import Foundation
import FuzzSupport
import TensorFormats
import Tokenization

/// Letters of several scripts, digits, marks, line endings, and special tokens of the seeds.
let text = "<s>Füße of 3.14 Ωμέγα, don't 北京  \r\n\t if(x[0]){}\u{301}\u{200D}👩‍🚀 </s>12345"

/// Any bytes as `tokenizer.json`: refused with an error, or a tokenizer whose ids stay in its vocabulary.
func check(_ document: [UInt8]) {
  _ = try? PreTokenizerRecognition(tokenizerJSON: document)
  guard let tokenizer = try? Tokenizer(tokenizerJSON: document) else { return }
  require(tokenizer.tokenCount <= tokenizer.idLimit, "more tokens than ids")
  for addsSpecial in [false, true] {
    guard let ids = try? tokenizer.encode(text, addSpecialTokens: addsSpecial) else { continue }
    require(ids.allSatisfy { tokenizer.token($0) != nil }, "an id without a token")
    // Memory depends on the text and not on the document: words do not multiply.
    require(ids.count <= text.utf8.count + 4096, "\(ids.count) tokens for \(text.utf8.count) bytes")
    _ = tokenizer.decode(ids)
    _ = tokenizer.decode(ids, skipSpecialTokens: true)
    require((try? tokenizer.encode(text, addSpecialTokens: addsSpecial)) == ids, "other ids the second time")
  }
}

exit(
  runFuzzer { bytes, count in
    check(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
  })
