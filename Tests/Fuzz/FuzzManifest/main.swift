import ByteStreams
import Checkpoint
import Conversion
import Foundation
import FuzzFiles
import FuzzSupport
import TensorFormats

/// Any bytes as an output's manifest, and as a stored plan: refused with an error, or sound in every respect that callers rely on.
func check(_ document: [UInt8]) {
  _ = try? StoredPlan(reading: MemorySource(document))
  guard let manifest = try? Manifest.read(in: MemoryFiles([OutputMarkers.manifest: document])) else { return }
  require(Set(manifest.files.map(\.path)).count == manifest.files.count, "a file is listed twice")
  for file in manifest.files {
    require(file.bytes >= 0, "\(file.path) has a negative size")
    require(
      !file.path.isEmpty && !file.path.hasPrefix("/") && !file.path.split(separator: "/").contains(".."),
      "\(file.path) leaves the folder")
  }
  require(
    (try? Manifest.read(in: MemoryFiles([OutputMarkers.manifest: document])))?.files == manifest.files,
    "it reads differently again")
}

exit(
  runFuzzer { bytes, count in
    check(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
  })
