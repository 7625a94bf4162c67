/// The files that mark a directory as written by `step3-convert`.
public enum OutputMarkers {
  /// The journal of a conversion in progress. While it is there and the manifest is not, the directory is unfinished.
  public static let journal = "step3-convert.journal"
  /// Written last: a directory with it is complete.
  public static let manifest = "manifest.json"
  /// The default name of a directory's signature, the same as in `model_signing`.
  public static let signature = "model.sig"
  /// The suffix of signature files of any kind.
  public static let signatureSuffix = ".sig"
  /// The suffix of incomplete data files, so that no engine takes them for weights.
  public static let unfinishedSuffix = ".unfinished"
  /// Larger than any index or configuration: no such file is read beyond it.
  public static let largestTextFile = 1 << 28
  /// Larger than the manifest and the journal of the largest set that can be planned, about a million tensors: neither is
  /// read beyond it, nor written.
  public static let largestRecord = 1 << 32
}
