internal import ByteStreams
internal import Checkpoint
internal import JSON
internal import Safetensors
public import TensorFormats

/// Prompts as token ids, from a file.
public enum TokenFile {
  /// More tokens than any context holds.
  private static let largestCount = 1 << 24

  /// Reads prompts from a `.safetensors` file with `input_ids` ([T], or [N, T] for several of one length) or a JSON
  /// file: a list of ids, a list of such lists, or an object with `input_ids`.
  ///
  /// - Throws: `.notFound`, `.malformed` with what was expected, `.unsupported` for other types of ids.
  public static func read(_ path: String) throws(CheckpointError) -> [[Int]] {
    let file = try InputFile(path)
    do throws(CheckpointError) {
      let prompts = path.hasSuffix(".safetensors") ? try tensors(file) : try json(file)
      guard !prompts.isEmpty else { throw CheckpointError(.malformed, "it contains no tokens") }
      if let empty = prompts.firstIndex(where: \.isEmpty) {
        throw CheckpointError(
          .malformed, "there are no tokens in \(prompts.count == 1 ? "the file" : "prompt \(empty + 1)")")
      }
      return prompts
    } catch {
      throw error.at(path: path)
    }
  }

  private static func tensors(_ file: InputFile) throws(CheckpointError) -> [[Int]] {
    let header = try SafetensorsHeader.read(from: file)
    guard let tensor = header.tensors.first(where: { $0.name == "input_ids" }) else {
      throw CheckpointError(.malformed, "there is no tensor 'input_ids'")
    }
    guard (1...2).contains(tensor.shape.rank), tensor.shape.elementCount <= largestCount else {
      throw CheckpointError(
        .malformed, "has the shape \(tensor.shape); expected [tokens] or [prompts, tokens]",
        tensor: "input_ids")
    }
    let bytes = try file.readBytes(tensor.byteRange)
    let ids = try integers(bytes, tensor.elementType)
    let length = tensor.shape.columns
    guard length > 0 else { return [] }
    return stride(from: 0, to: ids.count, by: length).map { Array(ids[$0..<$0 + length]) }
  }

  /// The elements of a tensor of ids.
  static func integers(_ bytes: [UInt8], _ type: ElementType) throws(CheckpointError) -> [Int] {
    let span = unsafe bytes.span.bytes
    func load<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type) -> [Int] {
      stride(from: 0, to: bytes.count, by: MemoryLayout<T>.size).map {
        Int(
          truncatingIfNeeded: T(littleEndian: unsafe span.unsafeLoadUnaligned(fromByteOffset: $0, as: T.self))
        )
      }
    }
    switch type {
    case .i64: return load(Int64.self)
    case .i32: return load(Int32.self)
    case .u32: return load(UInt32.self)
    case .u16: return load(UInt16.self)
    case .i16: return load(Int16.self)
    default:
      throw CheckpointError(.unsupported, "token ids cannot be \(type)", tensor: "input_ids")
    }
  }

  private static func json(_ file: InputFile) throws(CheckpointError) -> [[Int]] {
    let text = try file.readBytes(0..<min(file.byteCount, JSONValue.largestDocument + 1))
    var value = try JSONValue.parse(text, name: "the file of tokens")
    if let ids = value.members?["input_ids"] { value = ids }
    guard case .array(let items) = value else {
      throw CheckpointError(
        .malformed,
        "expected a list of token ids, a list of such lists or an object with 'input_ids', found "
          + value.kind)
    }
    if case .array? = items.first {
      var prompts: [[Int]] = []
      for item in items { prompts.append(try ids(item)) }
      return prompts
    }
    return [try ids(value)]
  }

  private static func ids(_ value: JSONValue) throws(CheckpointError) -> [Int] {
    guard case .array(let items) = value else {
      throw CheckpointError(.malformed, "expected a list of token ids, found \(value.kind)")
    }
    var ids: [Int] = []
    for item in items {
      guard let id = item.whole else {
        throw CheckpointError(.malformed, "expected a token id, found \(item.kind)")
      }
      ids.append(id)
    }
    return ids
  }
}
