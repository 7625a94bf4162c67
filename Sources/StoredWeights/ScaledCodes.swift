internal import Checkpoint
internal import Quantization
internal import TensorFormats

/// How codes of a given width are packed into 32-bit words.
///
/// Where 32 is not a multiple of the bits there are two ways: older versions of compressed-tensors leave the rest of a
/// word empty, 0.20 continues in the next.
struct WordPacking: Hashable, Sendable {
  let bits: Int
  /// Whether a code may begin in one word and end in the next.
  let isDense: Bool

  /// The number of words that this many codes take.
  func words(for codes: Int) -> Int {
    isDense ? (codes * bits + 31) / 32 : (codes + 32 / bits - 1) / (32 / bits)
  }

  /// The first bit of a code, counted from the first word's lowest.
  func start(of code: Int) -> Int {
    isDense ? code * bits : code / (32 / bits) * 32 + code % (32 / bits) * bits
  }

  /// The ways in which this many codes fit into this many words: one, both or none. If both are the same, only one is
  /// returned.
  static func fitting(bits: Int, codes: Int, words: Int) -> [WordPacking] {
    let ways = 32 % bits == 0 ? [false] : [false, true]
    return ways.map { WordPacking(bits: bits, isDense: $0) }.filter { $0.words(for: codes) == words }
  }
}

/// A weight whose codes can be read but not written: any way of storing integers or short floats with scales that is
/// not a ``WeightScheme``.
///
/// The element of row *r* and column *c* is `(code - zero) · scale`, computed in F32, where zero and scale belong to
/// the group of *c*: its number is `c / groupLength`, or given by the index of columns (act-order). Sources: the
/// decompression of compressed-tensors 0.20, AutoGPTQ's and AutoAWQ's packing, the OCP Microscaling Formats
/// specification 1.0 for MXFP8.
struct ScaledCodes: Hashable, Sendable {
  /// How codes, and zero points packed like them, are laid out in their tensor.
  enum Packing: Hashable, Sendable {
    /// One per element, row-major like the weight.
    case elements
    /// In words, lowest bits first, along the rows of a row-major matrix (compressed-tensors).
    case words(WordPacking)
    /// The weight is stored as its transpose `[columns, rows]`. Codes are packed along the first axis without gaps,
    /// lowest bits first: 32 of them are `bits` words (GPTQ).
    case transposed(bits: Int)
    /// The transpose again, four bits each, eight neighbours of a row in a word in the order 0 2 4 6 1 3 5 7 (AWQ).
    case awq
  }

  /// The source of zero points.
  enum Zeros: Hashable, Sendable {
    /// The same for all codes.
    case constant(Int)
    /// One for each scale, with the same layout, one per element.
    case elements(Checkpoint.Tensor)
    /// One for each scale of `[rows, groups]`, in words down the first axis (compressed-tensors).
    case wordsOfRows(Checkpoint.Tensor, WordPacking)
    /// One for each scale of `[groups, rows]`, packed along the second axis as GPTQ's codes are down the first; `added`
    /// to what is stored.
    case transposed(Checkpoint.Tensor, bits: Int, added: Int)
    /// The same in AWQ's order.
    case awq(Checkpoint.Tensor)
  }

  /// The name in messages: `GPTQ of 4 bits`.
  let name: String
  let codes: Checkpoint.Tensor
  let packing: Packing
  let scales: Checkpoint.Tensor
  let zeros: Zeros
  /// The group of each column, `[C]` or `[E, C]` of I32; `nil` if groups are contiguous.
  let groupIndex: Checkpoint.Tensor?
  /// Of the values, row-major: `[R, C]` or `[E, R, C]`.
  let shape: TensorShape
  /// How many rows share a scale.
  let scaleHeight: Int
  /// How many neighbours in a row share a scale, without an index of columns.
  let groupLength: Int
  /// The number of scale columns.
  let groups: Int

  /// Every tensor that it consists of.
  var components: [Checkpoint.Tensor] {
    let zeros: Checkpoint.Tensor? =
      switch self.zeros {
      case .constant: nil
      case .elements(let tensor), .wordsOfRows(let tensor, _), .transposed(let tensor, _, _),
        .awq(let tensor):
        tensor
      }
    return [codes, scales] + [zeros, groupIndex].compactMap { $0 }
  }

  var matrixCount: Int { shape.rank == 3 ? shape.dimensions[0] : 1 }
  var rows: Int { shape.dimensions[shape.rank - 2] }
  var columns: Int { shape.columns }
  /// The number of scale rows in one matrix of `[rows, groups]`.
  var scaleRows: Int { (rows + scaleHeight - 1) / scaleHeight }
  /// Whether the weight, its scales and its zero points are stored as their transposes.
  var isTransposed: Bool {
    switch packing {
    case .elements, .words: false
    case .transposed, .awq: true
    }
  }
}
