internal import CBlockKernels
internal import TensorFormats

extension BlockCodec {
  /// The IQ formats: non-linear levels and lattice codebooks.
  ///
  /// The reference does not write IQ1_S, IQ2_XXS or IQ2_XS without importance. IQ1_M is only read.
  static var iQuantCodecs: [BlockCodec] {
    [
      unsafe iQuant(.iq1S, cbk_iq1_s_decode, IQ1Twin.decodeS, .required, cbk_iq1_s_encode, IQ1Twin.encodeS),
      unsafe iQuant(.iq1M, cbk_iq1_m_decode, IQ1Twin.decodeM, .optional, nil, nil),
      unsafe iQuant(
        .iq2XXS, cbk_iq2_xxs_decode, IQ2Twin.decodeXXS, .required, cbk_iq2_xxs_encode, IQ2Twin.encodeXXS),
      unsafe iQuant(
        .iq2XS, cbk_iq2_xs_decode, IQ2Twin.decodeXS, .required, cbk_iq2_xs_encode, IQ2Twin.encodeXS),
      unsafe iQuant(.iq2S, cbk_iq2_s_decode, IQ2Twin.decodeS, .optional, cbk_iq2_s_encode, IQ2Twin.encodeS),
      unsafe iQuant(
        .iq3XXS, cbk_iq3_xxs_decode, IQ3Twin.decodeXXS, .optional, cbk_iq3_xxs_encode, IQ3Twin.encodeXXS),
      unsafe iQuant(.iq3S, cbk_iq3_s_decode, IQ3Twin.decodeS, .optional, cbk_iq3_s_encode, IQ3Twin.encodeS),
      unsafe iQuant(
        .iq4NL, cbk_iq4_nl_decode, IQ4Twin.decodeNL, .optional, cbk_iq4_nl_encode, IQ4Twin.encodeNL),
      unsafe iQuant(
        .iq4XS, cbk_iq4_xs_decode, IQ4Twin.decodeXS, .optional, cbk_iq4_xs_encode, IQ4Twin.encodeXS),
    ]
  }

  /// A codec whose twin works block by block.
  private static func iQuant(
    _ type: ElementType, _ decodeKernel: @escaping cbk_decode_fn,
    _ decode: @escaping @Sendable ([UInt8]) -> [Float],
    _ importanceUse: ImportanceUse, _ encodeKernel: cbk_encode_fn?,
    _ encode: (@Sendable ([Float], [Float]?) -> [UInt8])?
  ) -> BlockCodec {
    let (elements, bytes) = (type.block.elements, type.block.bytes)
    return unsafe BlockCodec(
      elementType: type, importanceUse: importanceUse, decodeKernel: decodeKernel, encodeKernel: encodeKernel,
      decodeTwin: IQTwin.decoder(bytes: bytes, elements: elements, decode),
      encodeTwin: encode.map { IQTwin.encoder(bytes: bytes, elements: elements, $0) })
  }
}
