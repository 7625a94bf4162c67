package import ByteStreams
package import JSON
package import TensorFormats

/// A statement in the form of in-toto (Statement v1): which things it is about, by their digests, and what it says.
package struct Statement: Hashable, Sendable {
  /// What a statement of this form says it is.
  package static let type = "https://in-toto.io/Statement/v1"
  /// What an envelope says that holds one.
  package static let payloadType = "application/vnd.in-toto+json"

  /// One thing that a statement is about.
  package struct Resource: Hashable, Sendable {
    package var name: String
    package var sha256: Digest

    package init(name: String, sha256: Digest) {
      (self.name, self.sha256) = (name, sha256)
    }
  }

  /// What it is about.
  package var subjects: [Resource]
  /// What kind of thing it says.
  package var predicateType: String
  /// What it says.
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
  /// - Throws: `.malformed` for what is none, `.unsupported` for other payloads and versions.
  package init(in bundle: SigstoreBundle) throws(CheckpointError) {
    guard bundle.payloadType == Self.payloadType else {
      throw CheckpointError(
        .unsupported,
        "signs something of the type '\(bundle.payloadType.printable)', where \(Self.payloadType) is wanted")
    }
    let value: JSONValue
    do throws(CheckpointError) {
      value = try JSONValue(parsing: bundle.payload)
    } catch {
      // The offset would be one of the payload, not of the file.
      throw Self.fault(error.message)
    }
    guard let type = value["_type"]?.text else { throw Self.fault("it has no _type") }
    guard type == Self.type else {
      throw CheckpointError(
        .unsupported, "signs a statement of the type '\(type.printable)', where \(Self.type) is wanted")
    }
    guard let predicateType = value["predicateType"]?.text, let predicate = value["predicate"],
      let items = value["subject"]?.items
    else { throw Self.fault("it lacks its subject, its predicateType or its predicate") }
    self.predicateType = predicateType
    self.predicate = predicate
    subjects = try items.map { (item) throws(CheckpointError) in try Resource(item, "a subject") }
  }

  /// The error for a statement that is none.
  static func fault(_ message: String) -> CheckpointError {
    CheckpointError(.malformed, "signs no sound statement: \(message)")
  }
}

extension Statement.Resource {
  /// Reads a resource descriptor of in-toto.
  ///
  /// - Throws: `.malformed` for one without a name or a SHA-256.
  init(_ value: JSONValue, _ what: String) throws(CheckpointError) {
    guard let name = value["name"]?.text, let sha256 = Digest(sha256: value["digest"]?["sha256"]) else {
      throw Statement.fault("\(what) lacks its name or its SHA-256")
    }
    (self.name, self.sha256) = (name, sha256)
  }

  /// The same as a descriptor.
  var json: JSONValue {
    .object(["name": .string(name), "digest": .object(["sha256": .string("\(sha256)")])])
  }
}
