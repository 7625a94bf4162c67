import ByteStreams
import CheckpointTesting
import Foundation
import Safetensors
import TensorFormats

typealias Item = SafetensorsLayout.Item

/// A file made by hand: the header's length, its text, and `dataByteCount` zero bytes.
func file(_ header: String, dataByteCount: Int = 0) -> [UInt8] {
  let text = Array(header.utf8)
  return (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) } + text
    + [UInt8](repeating: 0, count: dataByteCount)
}

func parse(_ file: [UInt8]) throws(CheckpointError) -> SafetensorsHeader {
  try SafetensorsHeader.read(from: MemorySource(file))
}

func parse(_ header: String, dataByteCount: Int = 0) throws(CheckpointError) -> SafetensorsHeader {
  try parse(file(header, dataByteCount: dataByteCount))
}

func index(_ text: String) throws(CheckpointError) -> SafetensorsIndex {
  try SafetensorsIndex.read(from: MemorySource(Array(text.utf8)))
}

/// The error that `body` throws; `nil` if none.
func failure(_ body: () throws(CheckpointError) -> Void) -> CheckpointError? {
  do throws(CheckpointError) {
    try body()
    return nil
  } catch {
    return error
  }
}

extension SafetensorsHeader {
  /// The tensors as a layout would describe them.
  var items: [Item] { tensors.map { Item(name: $0.name, elementType: $0.elementType, shape: $0.shape) } }
}

extension SafetensorsLayout {
  /// The finished file, with zeros as data.
  var emptyFile: [UInt8] { headerBytes + [UInt8](repeating: 0, count: header.dataByteCount) }
}

/// Tensors of every type and many shapes, with awkward names.
func randomItems(_ count: Int, using generator: inout SeededGenerator) -> [Item] {
  let endings = ["weight", "scale", "\"quoted\"", "back\\slash", "tab\t", "\u{1}", "é", "漢", "🎛", "~", "/"]
  return (0..<count).map { number in
    let type = ElementType.safetensorsTypes.randomElement(using: &generator) ?? .u8
    var dimensions = (0..<Int.random(in: 0...4, using: &generator)).map { _ in
      Int.random(in: 0...5, using: &generator)
    }
    if type.block.elements > 1 { dimensions.append(4 * Int.random(in: 0...2, using: &generator)) }
    let ending = endings.randomElement(using: &generator) ?? ""
    return Item(
      name: "\(Int.random(in: 0..<1000, using: &generator)).\(number).\(ending)", elementType: type,
      shape: TensorShape(dimensions))
  }
}

/// Runs `body` with a new folder and removes the folder afterwards.
func withTemporaryFolder(_ body: (String) throws -> Void) throws {
  let folder = FileManager.default.temporaryDirectory.appending(path: "safetensors-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  try body(folder.path)
}
