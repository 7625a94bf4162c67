public import ByteStreams
public import TensorFormats

extension SafetensorsHeader {
  /// Reads and checks the header of a file. No tensor data is read.
  ///
  /// - Throws: As ``parse(_:fileByteCount:)-(RawSpan,_)``, and what reading throws. The error names the file.
  /// - Complexity: O(*n* log *n*) for *n* bytes of header, O(*n*) if tensors are listed by rising offset, as all
  ///   known writers do. Allocates the header once and some four times its length for the result; up to ten times for
  ///   a header made to be expensive.
  public static func read(from source: some ByteSource) throws(CheckpointError) -> SafetensorsHeader {
    do throws(CheckpointError) {
      let prefix = try source.readBytes(0..<min(lengthFieldByteCount, source.byteCount))
      let length = try unsafe length(in: prefix.span.bytes, fileByteCount: source.byteCount)
      let bytes = try source.readBytes(0..<(lengthFieldByteCount + length))
      return try unsafe parse(bytes.span.bytes, fileByteCount: source.byteCount)
    } catch {
      throw error.explained(by: source, as: .safetensors).at(path: source.path)
    }
  }

  /// Checks the header of a file that is `fileByteCount` bytes long.
  ///
  /// Accepted, because the reference reader accepts it: white space around the JSON object, unknown fields in a
  /// tensor's description, `null` for `__metadata__`, a key twice inside it (the last one counts), empty names, any
  /// rank, tensors listed in any order, lengths and offsets that are not aligned. Refused although the reference
  /// reader does not always: two tensors of one name.
  ///
  /// - Parameters:
  ///   - bytes: The file from its start to the end of the header at least.
  ///   - fileByteCount: The size of the whole file.
  /// - Throws: `.truncated` if the file is shorter than its header says, `.malformed` for a broken rule,
  ///   `.unsupported` for an element type or a pair of names that this toolkit cannot represent. The error has the
  ///   byte offset in the file, and the tensor's name where one is concerned.
  public static func parse(_ bytes: RawSpan, fileByteCount: Int) throws(CheckpointError) -> SafetensorsHeader
  {
    let length = try length(in: bytes, fileByteCount: fileByteCount)
    let dataOffset = lengthFieldByteCount + length
    guard bytes.byteCount >= dataOffset else {
      throw CheckpointError(
        .truncated, "the header takes \(dataOffset) bytes, but only \(bytes.byteCount) were read",
        offset: bytes.byteCount)
    }
    var reader = SafetensorsHeaderReader(bytes.extracting(lengthFieldByteCount..<dataOffset))
    try reader.readObject()
    return try reader.header(dataOffset: dataOffset, fileByteCount: fileByteCount)
  }

  /// The length of the JSON text, compared with the format's limit and the file's size before anyone allocates it.
  private static func length(in bytes: RawSpan, fileByteCount: Int) throws(CheckpointError) -> Int {
    guard fileByteCount >= lengthFieldByteCount, bytes.byteCount >= lengthFieldByteCount else {
      throw CheckpointError(
        .truncated,
        "the file has \(fileByteCount) bytes, too few for the \(lengthFieldByteCount) that hold the header's length",
        offset: min(fileByteCount, bytes.byteCount), remedy: "the download may be incomplete")
    }
    var declared: UInt64 = 0
    for index in (0..<lengthFieldByteCount).reversed() {
      declared = unsafe declared << 8 | UInt64(bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self))
    }
    guard declared <= UInt64(maximumByteCount) else {
      throw CheckpointError(
        .malformed,
        "the header's length is \(declared), but the format allows \(maximumByteCount) bytes at most",
        offset: 0, remedy: "this may not be a safetensors file")
    }
    let length = Int(declared)
    guard length <= fileByteCount - lengthFieldByteCount else {
      throw CheckpointError(
        .truncated,
        "the header's length is \(length), but only \(fileByteCount - lengthFieldByteCount) bytes follow",
        offset: 0, remedy: "the download may be incomplete, or this is not a safetensors file")
    }
    return length
  }
}
