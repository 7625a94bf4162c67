internal import ByteStreams
internal import JSON
package import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// A statement with its signature, as Sigstore bundle 0.3 JSON: a DSSE envelope, and a hint at the key that made it.
///
/// Nothing in it may be trusted before ``isSigned(by:)``.
package struct SigstoreBundle: Hashable, Sendable {
  /// The media type of this kind of bundle.
  package static let mediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"
  /// The largest bundle that is read or written: enough for some seventy thousand files.
  package static let largestFile = 16 << 20

  /// What kind of thing is signed.
  package let payloadType: String
  /// What is signed.
  package let payload: [UInt8]
  /// The signature in DER.
  package let signature: [UInt8]
  /// The fingerprint of the signing key stated in the bundle; `nil` where none is given, as before model_signing 1.0.
  package let keyHint: String?

  /// Signs a statement.
  ///
  /// - Throws: `.unsupported` if it would be too large to be read back.
  package init(signing statement: Statement, with key: SigningKey) throws(CheckpointError) {
    payloadType = Statement.payloadType
    payload = statement.text
    signature = try key.signature(
      of: DSSE.preAuthenticationEncoding(type: payloadType, payload: payload))
    keyHint = "\(key.publicKey.fingerprint)"
    guard text.count <= Self.largestFile else {
      throw CheckpointError(
        .unsupported,
        "the signature of this many files would have \(text.count) bytes, at most \(Self.largestFile) are supported"
      )
    }
  }

  /// Whether the envelope was signed with the private half of this key.
  package func isSigned(by key: VerifyingKey) -> Bool {
    key.isValid(signature, of: DSSE.preAuthenticationEncoding(type: payloadType, payload: payload))
  }

  /// The bundle as a file.
  package var text: [UInt8] {
    let value: JSONValue = .object([
      "mediaType": .string(Self.mediaType),
      "verificationMaterial": .object([
        "publicKey": .object(["hint": .string(keyHint ?? "")]), "tlogEntries": .array([]),
      ]),
      "dsseEnvelope": .object([
        "payload": .string(Data(payload).base64EncodedString()), "payloadType": .string(payloadType),
        "signatures": .array([
          .object(["sig": .string(Data(signature).base64EncodedString()), "keyid": .string("")])
        ]),
      ]),
    ])
    return Array(JSONText.compact(value).utf8) + [UInt8(ascii: "\n")]
  }
}

// MARK: - Reading

extension SigstoreBundle {
  /// Reads a bundle that was made with a key.
  ///
  /// Unknown members are refused, as Protocol Buffers do, so that every change of its text is noticed.
  ///
  /// - Throws: `.malformed` if it is not a bundle; `.unsupported` for another version, or one made with a certificate
  ///   or a Sigstore identity.
  package init(parsing text: [UInt8]) throws(CheckpointError) {
    guard text.count <= Self.largestFile else {
      throw Self.fault("\(text.count) bytes are too many; at most \(Self.largestFile) are read")
    }
    let value: JSONValue
    do throws(CheckpointError) {
      value = try JSONValue(parsing: text)
    } catch {
      var named = error.explained(prefix: text, byteCount: text.count, as: .json)
      named.message = "is not a Sigstore bundle: \(named.message)"
      throw named
    }
    guard let mediaType = value["mediaType"]?.text else { throw Self.fault("it has no mediaType") }
    guard mediaType == Self.mediaType else {
      throw CheckpointError(
        .unsupported, "has the media type '\(mediaType.printable)'; \(Self.mediaType) is supported")
    }
    let top = try Self.members(
      of: value, "the bundle", ["mediaType", "verificationMaterial", "dsseEnvelope", "messageSignature"])
    guard top["messageSignature"] == nil else {
      throw CheckpointError(.unsupported, "signs a message, a statement in a DSSE envelope is expected")
    }
    keyHint = try Self.keyHint(in: top["verificationMaterial"])
    let envelope = try Self.members(
      of: top["dsseEnvelope"], "dsseEnvelope", ["payload", "payloadType", "signatures"])
    guard let type = envelope["payloadType"]?.text, let signatures = envelope["signatures"]?.items else {
      throw Self.fault("dsseEnvelope lacks its payloadType or its signatures")
    }
    payloadType = type
    payload = try Self.bytes(envelope["payload"], "dsseEnvelope.payload")
    guard signatures.count == 1 else {
      throw Self.fault("dsseEnvelope has \(signatures.count) signatures, a bundle has one")
    }
    let first = try Self.members(of: signatures[0], "the signature", ["sig", "keyid"])
    signature = try Self.bytes(first["sig"], "dsseEnvelope.signatures[0].sig")
    if let name = first["keyid"], name != .string(""), name != .null {
      throw CheckpointError(
        .unsupported, "names a key by its keyid, \(name.kind), a bundle names it by its hint")
    }
  }

  private static func keyHint(in material: JSONValue?) throws(CheckpointError) -> String? {
    let material = try members(
      of: material, "verificationMaterial",
      ["publicKey", "certificate", "x509CertificateChain", "tlogEntries", "timestampVerificationData"])
    for (member, what, command) in [
      ("x509CertificateChain", "a certificate", "certificate"),
      ("certificate", "a Sigstore identity", "sigstore"),
    ] where material[member] != nil {
      throw CheckpointError(
        .unsupported, "was made with \(what); signatures made with a key are supported",
        remedy: "check it with: model_signing verify \(command)")
    }
    // Written by model_signing before 1.0, which ignores them on reading too: the key is the one given by the user.
    let key = try members(of: material["publicKey"], "publicKey", ["hint", "rawBytes", "keyDetails"])
    guard (material["tlogEntries"] ?? .array([])).items != nil else {
      throw fault("tlogEntries is not a list")
    }
    guard let hint = key["hint"], hint != .null else { return nil }
    guard let text = hint.text else { throw fault("the key's hint is \(hint.kind)") }
    return text.isEmpty ? nil : text
  }

  /// The members of an object that may have only these.
  private static func members(
    of value: JSONValue?, _ what: String, _ known: [String]
  ) throws(CheckpointError) -> JSONMembers {
    guard let value, let members = value.members else {
      throw fault("\(what) is \(value?.kind ?? "not there")")
    }
    for key in members.keys where !known.contains(key) {
      throw fault("\(what) has the unknown member '\(key.printable)'")
    }
    return members
  }

  /// The bytes of a base64 string. Only the canonical form is accepted, or a change could go unnoticed.
  private static func bytes(_ value: JSONValue?, _ what: String) throws(CheckpointError) -> [UInt8] {
    guard let text = value?.text, let bytes = Data(base64Encoded: text), bytes.base64EncodedString() == text
    else { throw fault("\(what) is not base64") }
    return Array(bytes)
  }

  private static func fault(_ message: String) -> CheckpointError {
    CheckpointError(.malformed, "is not a Sigstore bundle: \(message)")
  }
}
