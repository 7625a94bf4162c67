/// A step of a conversion.
public struct ConversionProgress: Sendable {
  /// Bytes of the source that were read, converted, written and handed to the digests since the last report, and bytes of
  /// the output that were archived. They add up to the size of the source's weight files, and of the output's if it is
  /// archived.
  public let bytes: Int
  /// The output tensor they went to; `nil` between tensors.
  public let tensor: String?
}
