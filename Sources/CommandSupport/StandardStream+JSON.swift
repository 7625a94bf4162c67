internal import JSON
public import TensorFormats

extension StandardStream {
  /// Writes a value as one JSON document.
  ///
  /// - Throws: `.inputOutput`.
  public func write(json value: some Encodable) throws(CheckpointError) {
    let document = JSONText.document(value)
    try unsafe write(document.span.bytes)
  }
}
