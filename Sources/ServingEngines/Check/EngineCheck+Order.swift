internal import TensorFormats

extension EngineCheck {
  /// The order of GPTQ's columns, which engines ignore unless the configuration says `desc_act`.
  mutating func checkOrder() throws(CheckpointError) {
    for (module, layout) in placed {
      guard case .gptq(_, let group, isReordered: false) = layout else { continue }
      for stem in [module.stem] + module.members.map(\.stem) {
        guard let tensor = tensors["\(stem).g_idx"], tensor.elementType == .i32, tensor.shape.columns > 0
        else {
          continue
        }
        guard let read = subject.read else {
          let note = "whether g_idx is in order: the tensors have not been written yet"
          if !skipped.contains(note) { skipped.append(note) }
          return
        }
        let bytes = try read(tensor)
        let columns = tensor.shape.columns
        let isInOrder = stride(from: 0, to: bytes.count - 3, by: 4).allSatisfy { start in
          let index = (0..<4).reduce(0) { $0 | Int(bytes[start + $1]) << (8 * $1) }
          return index == start / 4 % columns / group
        }
        guard !isInOrder else { continue }
        findings.add(
          .silent, .orderIgnored, tensor: tensor.name, file: tensor.file,
          "the columns are not in the order of their groups, and desc_act is not true",
          consequence: "\(engine.name) ignores g_idx, and multiplies columns by the scales of other groups",
          remedy: "write \"desc_act\": true into quantization_config")
      }
    }
  }
}
