import CommandSupport
import Conversion
import ShardPlanning
import TensorFormats

/// What a conversion came to, printed at its end.
struct ConversionSummary: Encodable {
  let output: String
  let sourceBytes: Int
  let outputBytes: Int
  let bitsPerWeight: Double
  let files: Int
  let tensors: Int
  let seconds: Double
  let peakMemoryBytes: Int
  let worst: [Worst]

  struct Worst: Encodable {
    let tensor: String
    let file: String
    let relativeRMSE: Double
    let maximumAbsoluteError: Double
  }

  init(_ manifest: Manifest, output: String, seconds: Double) {
    self.output = output
    sourceBytes = manifest.plan.sourceBytes
    outputBytes = manifest.plan.outputBytes
    bitsPerWeight = manifest.plan.bitsPerWeight
    files = manifest.plan.files.count
    tensors = manifest.tensors.count
    self.seconds = seconds
    peakMemoryBytes = ProcessUsage.peakMemoryBytes
    let lossy = manifest.tensors.compactMap { record in
      record.error.map {
        Worst(
          tensor: record.name, file: record.file, relativeRMSE: $0.relativeRMSE,
          maximumAbsoluteError: $0.maximumAbsoluteError)
      }
    }
    worst = Array(lossy.sorted { ($1.relativeRMSE, $0.tensor) < ($0.relativeRMSE, $1.tensor) }.prefix(5))
  }

  func print(json: Bool) throws(CheckpointError) {
    if json {
      return try StandardStream.output.write(json: self)
    }
    var text = "\(output): \(tensors) tensors in \(files) \(files == 1 ? "file" : "files")\n"
    text += "  \(ByteSize(bytes: sourceBytes).decimal) -> \(ByteSize(bytes: outputBytes).decimal), "
    text += "\(decimal(bitsPerWeight, 2)) bits per weight\n"
    let rate = seconds > 0 ? Int(Double(sourceBytes) / seconds) : 0
    text += "  \(decimal(seconds, 1)) s, \(ByteSize(bytes: rate).decimal)/s, peak memory "
    text += "\(ByteSize(bytes: peakMemoryBytes).binary)\n"
    if !worst.isEmpty {
      text += "  largest relative errors:\n"
      for tensor in worst {
        text += "    \(decimal(tensor.relativeRMSE * 100, 3)) %  \(tensor.tensor.printable)\n"
      }
    }
    text += "  check it with: step3-verify checksums \(output)\n"
    try StandardStream.output.write(text)
  }
}
