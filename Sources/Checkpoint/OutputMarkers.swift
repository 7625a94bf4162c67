/// The files by which a directory that `step3-convert` wrote says what it is.
public enum OutputMarkers {
  /// The journal of a conversion in progress. While it is there and the manifest is not, the directory is unfinished.
  public static let journal = "step3-convert.journal"
  /// Written last: a directory with it is complete.
  public static let manifest = "manifest.json"
  /// The signature of a directory, where nobody calls it otherwise. `model_signing` has that name for it.
  public static let signature = "model.sig"
  /// Ends the names of signatures of whatever kind.
  public static let signatureSuffix = ".sig"
  /// Ends the names of data files that are not complete yet, so that no engine takes them for weights.
  public static let unfinishedSuffix = ".unfinished"
  /// Larger than any index or configuration: no such file is read beyond it.
  public static let largestTextFile = 1 << 28
  /// Larger than the manifest and the journal of the largest set that can be planned, about a million tensors: neither is
  /// read beyond it, nor written.
  public static let largestRecord = 1 << 32
}
