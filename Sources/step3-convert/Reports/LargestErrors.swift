import Comparison
import Conversion
import Quantization
import QuantizationRecipes
import ShardPlanning
import TensorFormats

/// The tensors of an output with the largest errors, each beside what is usual for its format.
struct LargestErrors {
  /// One of them.
  struct Tensor: Encodable {
    let tensor: String
    let file: String
    let relativeRMSE: Double
    let maximumAbsoluteError: Double
    /// Its storage format, as recipes spell it.
    let format: String
    /// The median of all tensors of this output in that format.
    let medianRelativeRMSE: Double
    /// The usual error of the format; `nil` if unknown, and for codes chosen by calibration.
    let usual: ErrorBound.Expected?

    /// `8.745 %  token_embd.weight  (Q4_K: usually 7.14 to 9.23 %, here median 7.52 %)`
    var text: String {
      func digits(_ share: Double, _ places: Int) -> String { NumberText.decimals(share * 100, places) }
      var kin = "here median \(digits(medianRelativeRMSE, 2)) %"
      if let usual {
        let (low, high) = (min(usual.gaussian, usual.heavyTailed), max(usual.gaussian, usual.heavyTailed))
        kin = "usually \(digits(low, 2)) to \(digits(high, 2)) %, " + kin
      }
      return "\(digits(relativeRMSE, 3)) %  \(tensor.printable)  (\(format): \(kin))"
    }
  }

  /// At most five, the largest first.
  let tensors: [Tensor]

  init(_ manifest: Manifest) {
    struct Place: Hashable { let file: String, name: String }
    var planned: [Place: ShardPlan.Tensor] = [:]
    for file in manifest.plan.files {
      for tensor in file.tensors { planned[Place(file: file.path, name: tensor.name)] = tensor }
    }
    let lossy = manifest.tensors.compactMap { record in
      record.error.map { (record, $0, planned[Place(file: record.file, name: record.name)]) }
    }
    let errors = Dictionary(grouping: lossy) { Self.format(of: $0.2) }.mapValues {
      $0.map(\.1.relativeRMSE).sorted()
    }
    let worst = lossy.sorted { ($1.1.relativeRMSE, $0.0.name) < ($0.1.relativeRMSE, $1.0.name) }.prefix(5)
    tensors = worst.map { record, error, tensor in
      let format = Self.format(of: tensor)
      let all = errors[format] ?? []
      return Tensor(
        tensor: record.name, file: record.file, relativeRMSE: error.relativeRMSE,
        maximumAbsoluteError: error.maximumAbsoluteError, format: format,
        medianRelativeRMSE: all[all.count / 2],
        usual: manifest.plan.request.calibration == nil ? tensor.flatMap(Self.usual) : nil)
    }
  }

  private static func usual(_ tensor: ShardPlan.Tensor) -> ErrorBound.Expected? {
    let storage =
      if case .encode(_, let stored, _) = tensor.operation {
        StoredPrecision(stored.scheme)
      } else {
        StoredPrecision(tensor.elementType)
      }
    return ErrorBound(storage, of: StoredPrecision(.f32)).expected
  }

  private static func format(of tensor: ShardPlan.Tensor?) -> String {
    guard let tensor else { return "?" }
    if case .encode(_, let scheme, _) = tensor.operation { return StorageFormat.scheme(scheme).spelling }
    return tensor.elementType.rawValue
  }
}
