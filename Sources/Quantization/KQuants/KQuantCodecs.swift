extension BlockCodec {
  /// The K formats: super-blocks of 256 with quantised scales.
  static var kQuantCodecs: [BlockCodec] { [] }
}
