internal import TensorFormats

extension EngineCheck {
  /// The length of a header beyond which the safetensors library refuses a file.
  private static let longestHeader = 100_000_000
  /// The length beyond which the Hub does not parse it.
  private static let longestHeaderOfHub = 25_000_000

  /// Shards and index.
  mutating func checkFiles() {
    for file in subject.files {
      guard let bytes = file.headerByteCount, bytes > Self.longestHeaderOfHub else { continue }
      let isTooLong = bytes > Self.longestHeader
      findings.add(
        isTooLong ? .error : .warning, .headerTooLarge, file: file.name,
        "the header has \(bytes) bytes; the limit is \(isTooLong ? Self.longestHeader : Self.longestHeaderOfHub)",
        consequence: isTooLong
          ? "\(engine.name) stops: safetensors refuses the file" : "the Hub shows no tensors",
        remedy: "write the tensors into more shards")
    }
    checkDuplicates()
    if let index = subject.index { check(index) }
    for shard in subject.orphanShards {
      findings.add(
        .warning, .orphanShard, file: shard, "the index does not name this shard",
        consequence: "\(engine.name) ignores the file", remedy: "remove it, or rewrite the index")
    }
  }

  private mutating func checkDuplicates() {
    var owners: [String: String] = [:]
    for tensor in subject.tensors {
      guard let first = owners.updateValue(tensor.file, forKey: tensor.name) else { continue }
      findings.add(
        .silent, .duplicateTensor, tensor: tensor.name, file: tensor.file,
        "the shard '\(first.printable)' also has it",
        consequence: "\(engine.name) loads both, and the file that it reads last wins",
        remedy: "keep one of them")
    }
  }

  private mutating func check(_ index: EngineSubject.Index) {
    var total = 0
    for tensor in subject.tensors {
      total &+= tensor.shape.byteCount(as: tensor.elementType) ?? 0
      guard index.weightMap[tensor.name] != tensor.file else { continue }
      let stated = index.weightMap[tensor.name].map { "says '\($0.printable)'" } ?? "does not name it"
      findings.add(
        .warning, .indexMismatch, tensor: tensor.name, file: tensor.file, "the index \(stated)",
        consequence: "\(engine.name) reads whole shards, and loads it from here",
        remedy: "rewrite the index")
    }
    let present = Set(subject.tensors.map(\.name))
    for name in index.weightMap.keys.sorted() where !present.contains(name) {
      findings.add(
        .error, .indexMismatch, tensor: name, file: index.weightMap[name],
        "the index names it, but no shard has it",
        consequence: "\(engine.name) misses the tensor, or its shard", remedy: "complete the download")
    }
    if let stated = index.totalSize, stated != total {
      findings.add(
        .warning, .totalSize, file: "model.safetensors.index.json",
        "total_size is \(stated), but the tensors take \(total) bytes",
        consequence: "\(engine.name) ignores this; tools that show progress or memory are wrong",
        remedy: "rewrite the index")
    }
  }
}
