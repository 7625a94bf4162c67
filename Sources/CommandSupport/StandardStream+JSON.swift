internal import JSON
public import TensorFormats

extension StandardStream {
  /// Writes a value as one JSON document that names its kind.
  ///
  /// - Throws: `.inputOutput`.
  public func write(json value: some Encodable, as kind: DocumentKind) throws(CheckpointError) {
    let document = JSONText.document(value, schema: kind.identifier)
    try unsafe write(document.span.bytes)
  }
}
