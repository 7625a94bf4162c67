#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// The two fields of any Hugging Face `config.json` that say what the model is.
struct ConfigurationSummary: Decodable {
  let modelType: String?
  let architectures: [String]?

  enum CodingKeys: String, CodingKey {
    case modelType = "model_type"
    case architectures
  }

  /// `nil` if there is no configuration, or it is not a JSON object of this kind.
  init?(_ bytes: [UInt8]?) {
    guard let bytes, let summary = try? JSONDecoder().decode(Self.self, from: Data(bytes)) else { return nil }
    self = summary
  }
}
