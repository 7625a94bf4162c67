public import ShardPlanning

/// `manifest.json`: what an output directory holds, byte for byte, and where it came from. Written last.
///
/// It holds nothing that differs between two runs of the same conversion: no time, no host, no absolute path.
///
/// The first line of the file is `{`, the second states the root digest, which is the SHA-256 of every byte after that
/// line: `tail -n +3 manifest.json | sha256sum`. Keeping it elsewhere reveals a manifest that was rewritten together
/// with its files.
public struct Manifest: Codable, Hashable, Sendable {
  /// The layout of this value; raised when a field changes its meaning.
  public static let currentVersion = 5

  /// The root digest in hexadecimal; empty in a manifest that is not in a file.
  public internal(set) var digest = ""
  /// ``currentVersion`` at the time of writing.
  public var version: Int
  /// The toolkit's version.
  public var tool: String
  /// The plan that was run. In a part's own manifest: that part's share of it.
  public var plan: ShardPlan
  /// The source's weight files, with the digests of what was read.
  public var sources: [FileRecord]
  /// Every file of the output except this manifest.
  public var files: [FileRecord]
  /// Every tensor of the output.
  public var tensors: [TensorRecord]
  /// Weights rounded to nearest although the plan asks for calibration; `nil` if it asks for none.
  public var roundedToNearest: [CalibrationFallback]?

  /// One file.
  public struct FileRecord: Codable, Hashable, Sendable {
    /// The path below the directory that holds it.
    public var path: String
    /// Its size.
    public var bytes: Int
    /// XXH3-128 in hexadecimal, most significant byte first.
    public var xxh3: String
    /// SHA-256 in hexadecimal.
    public var sha256: String
  }

  /// One tensor.
  public struct TensorRecord: Codable, Hashable, Sendable {
    /// Its name.
    public var name: String
    /// Its file, as in ``Manifest/files``.
    public var file: String
    /// XXH3-128 of its bytes.
    public var xxh3: String
    /// The source tensors it was made from, by their names on disk.
    public var sources: [String]
    /// What was lost; `nil` for tensors whose values are unchanged.
    public var error: QuantizationError?
  }

  /// The difference between a tensor's source values and what its stored bytes decode to.
  ///
  /// A figure that is not a finite number is infinity here and `null` in the file.
  public struct QuantizationError: Codable, Hashable, Sendable {
    /// Root of the mean squared difference.
    public var rmse: Double
    /// The largest difference.
    public var maximumAbsoluteError: Double
    /// ``rmse`` as a share of the root mean square of the source values.
    public var relativeRMSE: Double
    /// The cosine of the angle between the two, as vectors.
    public var cosineSimilarity: Double
    /// What the search for scales has gained; `nil` if there was none.
    public var search: SearchGain?
  }

  /// The error with scales from the largest magnitudes, and with those found by the search.
  ///
  /// Squared differences are weighted by the importance of their columns where the plan names a matrix, so these are
  /// not ``QuantizationError/rmse``.
  public struct SearchGain: Codable, Hashable, Sendable {
    /// Root of the mean weighted squared difference with the scales of `absmax`.
    public var before: Double
    /// The same with the scales that are stored.
    public var after: Double
  }
}
