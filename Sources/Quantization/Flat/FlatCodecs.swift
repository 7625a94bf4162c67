extension BlockCodec {
  /// Plain floating-point scalars and the formats that round each element by itself.
  static var flatCodecs: [BlockCodec] { [] }
}
