extension BlockCodec {
  /// The IQ formats: non-linear levels and lattice codebooks.
  static var iQuantCodecs: [BlockCodec] { [] }
}
