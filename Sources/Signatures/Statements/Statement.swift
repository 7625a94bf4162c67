package import ByteStreams
package import JSON
package import TensorFormats

/// An in-toto statement (Statement v1): its subjects, by their digests, and what it says about them.
package struct Statement: Hashable, Sendable {
  /// The type of this kind of statement.
  package static let type = "https://in-toto.io/Statement/v1"
  /// The payload type of an envelope that holds one.
  package static let payloadType = "application/vnd.in-toto+json"

  /// One subject of a statement.
  package struct Resource: Hashable, Sendable {
    package var name: String
    package var sha256: Digest

    package init(name: String, sha256: Digest) {
      (self.name, self.sha256) = (name, sha256)
    }
  }

  /// Its subjects.
  package var subjects: [Resource]
  /// The type of its predicate.
  package var predicateType: String
  /// Its predicate.
  package var predicate: JSONValue

  /// The statement as text.
  package var text: [UInt8] {
    let value: JSONValue = .object([
      "_type": .string(Self.type), "subject": .array(subjects.map(\.json)),
      "predicateType": .string(predicateType), "predicate": predicate,
    ])
    return Array(JSONText.compact(value).utf8)
  }
}

extension Statement {
  /// Reads the statement that an envelope holds.
  ///
  /// - Throws: `.malformed` if it is not a statement, `.unsupported` for other payloads and versions.
  package init(in bundle: SigstoreBundle) throws(CheckpointError) {
    guard bundle.payloadType == Self.payloadType else {
      throw CheckpointError(
        .unsupported,
        "signs something of the type '\(bundle.payloadType.printable)', \(Self.payloadType) is expected")
    }
    let value: JSONValue
    do throws(CheckpointError) {
      value = try JSONValue(parsing: bundle.payload)
    } catch {
      // The offset would refer to the payload, not to the file.
      throw Self.fault(error.message)
    }
    guard let type = value["_type"]?.text else { throw Self.fault("it has no _type") }
    guard type == Self.type else {
      throw CheckpointError(
        .unsupported, "signs a statement of the type '\(type.printable)', \(Self.type) is expected")
    }
    guard let predicateType = value["predicateType"]?.text, let predicate = value["predicate"],
      let items = value["subject"]?.items
    else { throw Self.fault("it lacks its subject, its predicateType or its predicate") }
    self.predicateType = predicateType
    self.predicate = predicate
    subjects = try items.map { (item) throws(CheckpointError) in try Resource(item, "a subject") }
  }

  /// The error for something that is not a statement.
  static func fault(_ message: String) -> CheckpointError {
    CheckpointError(.malformed, "does not sign a valid statement: \(message)")
  }
}

extension Statement.Resource {
  /// Reads an in-toto resource descriptor.
  ///
  /// - Throws: `.malformed` for a descriptor without a name or a SHA-256.
  init(_ value: JSONValue, _ what: String) throws(CheckpointError) {
    guard let name = value["name"]?.text, let sha256 = Digest(sha256: value["digest"]?["sha256"]) else {
      throw Statement.fault("\(what) lacks its name or its SHA-256")
    }
    (self.name, self.sha256) = (name, sha256)
  }

  /// This as a descriptor.
  var json: JSONValue {
    .object(["name": .string(name), "digest": .object(["sha256": .string("\(sha256)")])])
  }
}
