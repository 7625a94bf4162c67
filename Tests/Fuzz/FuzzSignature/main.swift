import ByteStreams
import Foundation
import FuzzSupport
import JSON
import Signatures
import TensorFormats

/// Any bytes as a signature, and as its statement: refused with an error, or names that stay below the model and
/// pieces that add up to files.
func check(_ text: [UInt8]) {
  if let bundle = try? SigstoreBundle(parsing: text) {
    require((try? SigstoreBundle(parsing: bundle.text)) == bundle, "a bundle reads differently again")
    if let statement = try? Statement(in: bundle) { check(statement) }
  }
  // The statement itself, which a fuzzer would otherwise have to encode in base64.
  let envelope: JSONValue = .object([
    "mediaType": .string(SigstoreBundle.mediaType),
    "verificationMaterial": .object(["publicKey": .object(JSONMembers())]),
    "dsseEnvelope": .object([
      "payload": .string(Data(text).base64EncodedString()), "payloadType": .string(Statement.payloadType),
      "signatures": .array([.object(["sig": .string("")])]),
    ]),
  ])
  guard let bundle = try? SigstoreBundle(parsing: Array(JSONText.compact(envelope).utf8)) else {
    require(text.count > SigstoreBundle.largestFile / 2, "an envelope is refused")
    return
  }
  require(bundle.payload == text, "the payload is another one")
  if let statement = try? Statement(in: bundle) { check(statement) }
}

func check(_ statement: Statement) {
  if let provenance = try? Provenance(statement) {
    require((try? Provenance(provenance.statement)) == provenance, "provenance reads differently again")
  }
  guard let model = try? ModelStatement(statement) else { return }
  require((try? ModelStatement(model.statement)) == model, "a model's statement reads differently again")
  for file in model.files {
    require(
      file.path == "."
        || !file.path.hasPrefix("/") && !file.path.split(separator: "/").contains("..") && !file.path.isEmpty,
      "\(file.path) leaves the model")
    var end = 0
    for piece in file.pieces {
      guard let range = piece.range else { continue }
      require(range.lowerBound == end, "\(file.path) has a gap")
      end = range.upperBound
    }
  }
}

exit(
  runFuzzer { bytes, count in
    check(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
  })
