public import GGUF

/// What a GGUF file says of the part that it is: what `step3_partition` says in `config.json`.
extension GGUFMetadata {
  private static let partition = "step3.partition."

  /// Says which part the file is.
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

  /// Takes away what says that the file is a part: the whole model is none.
  public mutating func removePart() {
    for entry in entries where entry.key.hasPrefix(Self.partition) { remove(entry.key) }
  }
}
