internal import CBlockKernels
internal import TensorFormats

extension BlockCodec {
  /// The K formats: super-blocks of 256 elements whose sub-blocks of 16 or 32 have quantised scales.
  ///
  /// Arithmetic and layouts are those of `quantize_row_q*_K_ref` (without an importance matrix),
  /// `quantize_row_q*_K_impl` (with one) and `dequantize_row_q*_K` in ggml's `ggml-quants.c`, 0.25.3.
  static var kQuantCodecs: [BlockCodec] {
    unsafe [
      kQuant(
        .q2K, .optional, cbk_q2_k_decode, cbk_q2_k_encode, decode: Q2K.decode, encode: Q2K.encode),
      kQuant(
        .q3K, .optional, cbk_q3_k_decode, cbk_q3_k_encode, decode: Q3K.decode, encode: Q3K.encode),
      kQuant(
        .q4K, .optional, cbk_q4_k_decode, cbk_q4_k_encode, decode: Q4K.decode, encode: Q4K.encode),
      kQuant(
        .q5K, .optional, cbk_q5_k_decode, cbk_q5_k_encode, decode: Q5K.decode, encode: Q5K.encode),
      kQuant(
        .q6K, .optional, cbk_q6_k_decode, cbk_q6_k_encode, decode: Q6K.decode, encode: Q6K.encode),
      kQuant(
        .q8K, .ignored, cbk_q8_k_decode, cbk_q8_k_encode, decode: Q8K.decode, encode: Q8K.encode),
    ]
  }

  /// A codec from what a K format does with one super-block.
  private static func kQuant(
    _ type: ElementType, _ importanceUse: ImportanceUse,
    _ decodeKernel: @escaping cbk_decode_fn, _ encodeKernel: @escaping cbk_encode_fn,
    decode:
      @escaping @Sendable (
        _ block: borrowing SuperBlock, _ values: inout MutableSpan<Float>, _ first: Int
      ) -> Void,
    encode: @escaping @Sendable (_ search: inout KQuantSearch, _ block: inout SuperBlock) -> Void
  ) -> BlockCodec {
    let size = type.block.bytes
    return unsafe BlockCodec(
      elementType: type, importanceUse: importanceUse, decodeKernel: decodeKernel, encodeKernel: encodeKernel,
      decodeTwin: { blocks, values in
        var block = SuperBlock(size: size)
        for index in 0..<blocks.byteCount / size {
          block.load(blocks.extracting(index * size..<(index + 1) * size))
          decode(block, &values, index * SuperBlock.elements)
        }
      },
      encodeTwin: { values, importance, columns, blocks in
        var block = SuperBlock(size: size)
        var search = KQuantSearch()
        for index in 0..<values.count / SuperBlock.elements {
          let first = index * SuperBlock.elements
          search.load(values, at: first, importance: importance, at: first % columns)
          block.clear()
          encode(&search, &block)
          block.store(into: &blocks, at: index * size)
        }
      })
  }
}
