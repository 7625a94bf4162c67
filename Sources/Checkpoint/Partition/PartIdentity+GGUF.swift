public import GGUF

/// What a GGUF file says about its part: the counterpart of `step3_partition` in `config.json`.
extension GGUFMetadata {
  private static let partition = "step3.partition."

  /// Records which part the file is.
  public mutating func set(_ part: PartIdentity) {
    set(Self.partition + "role", .string(part.role.rawValue))
    setPosition("", part.position)
    setPosition("expert_parallel.", part.expertParallel)
    setPosition("tensor_parallel.", part.tensorParallel)
  }

  private mutating func setPosition(_ prefix: String, _ position: PartIdentity.Position) {
    set("\(Self.partition)\(prefix)rank", .uint32(UInt32(position.rank)))
    set("\(Self.partition)\(prefix)ranks", .uint32(UInt32(position.ranks)))
  }

  /// Removes what marks the file as a part: the whole model is not one.
  public mutating func removePart() {
    for entry in entries where entry.key.hasPrefix(Self.partition) { remove(entry.key) }
  }
}
