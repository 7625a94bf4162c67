internal import CBlockKernels
internal import TensorFormats

extension BlockCodec {
  /// The IQ formats: non-linear levels and lattice codebooks.
  ///
  /// The reference takes no IQ1_S, IQ2_XXS or IQ2_XS without importance.
  static var iQuantCodecs: [BlockCodec] {
    [
      unsafe iQuant(
        .iq1S, .required, cbk_iq1_s_decode, cbk_iq1_s_encode, IQ1Twin.decodeS, IQ1Twin.encodeS),
      unsafe iQuant(
        .iq1M, .optional, cbk_iq1_m_decode, cbk_iq1_m_encode, IQ1Twin.decodeM, IQ1Twin.encodeM),
      unsafe iQuant(
        .iq2XXS, .required, cbk_iq2_xxs_decode, cbk_iq2_xxs_encode, IQ2Twin.decodeXXS, IQ2Twin.encodeXXS),
      unsafe iQuant(
        .iq2XS, .required, cbk_iq2_xs_decode, cbk_iq2_xs_encode, IQ2Twin.decodeXS, IQ2Twin.encodeXS),
      unsafe iQuant(
        .iq2S, .optional, cbk_iq2_s_decode, cbk_iq2_s_encode, IQ2Twin.decodeS, IQ2Twin.encodeS),
      unsafe iQuant(
        .iq3XXS, .optional, cbk_iq3_xxs_decode, cbk_iq3_xxs_encode, IQ3Twin.decodeXXS, IQ3Twin.encodeXXS),
      unsafe iQuant(
        .iq3S, .optional, cbk_iq3_s_decode, cbk_iq3_s_encode, IQ3Twin.decodeS, IQ3Twin.encodeS),
      unsafe iQuant(
        .iq4NL, .optional, cbk_iq4_nl_decode, cbk_iq4_nl_encode, IQ4Twin.decodeNL, IQ4Twin.encodeNL),
      unsafe iQuant(
        .iq4XS, .optional, cbk_iq4_xs_decode, cbk_iq4_xs_encode, IQ4Twin.decodeXS, IQ4Twin.encodeXS),
    ]
  }

  /// A codec whose twin works block by block.
  private static func iQuant(
    _ type: ElementType, _ importanceUse: ImportanceUse, _ decodeKernel: @escaping cbk_decode_fn,
    _ encodeKernel: @escaping cbk_encode_fn, _ decode: @escaping @Sendable ([UInt8]) -> [Float],
    _ encode: @escaping @Sendable ([Float], [Float]?) -> [UInt8]
  ) -> BlockCodec {
    let (elements, bytes) = (type.block.elements, type.block.bytes)
    return unsafe BlockCodec(
      elementType: type, importanceUse: importanceUse, decodeKernel: decodeKernel, encodeKernel: encodeKernel,
      decodeTwin: IQTwin.decoder(bytes: bytes, elements: elements, decode),
      encodeTwin: IQTwin.encoder(bytes: bytes, elements: elements, encode))
  }
}
