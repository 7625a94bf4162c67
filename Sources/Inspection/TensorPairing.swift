internal import Checkpoint
internal import TensorFormats

/// Which tensor of one checkpoint is which of another.
///
/// Names are compared in the published form, where a model description knows it, so that a GGUF file meets the
/// checkpoint that it was made from. A name that occurs more than once, as between the parts of a partition set, is
/// paired first with first, second with second. Scales are no tensors of their own where the other side has none:
/// they are part of the values of the weight that they scale.
struct TensorPairing {
  private(set) var pairs: [(a: Checkpoint.Tensor, b: Checkpoint.Tensor)] = []
  private(set) var onlyInA: [String] = []
  private(set) var onlyInB: [String] = []

  init(_ a: Checkpoint, _ b: Checkpoint) {
    let namesA = ModelNames(a)
    let namesB = ModelNames(b)
    var waiting: [String: [Checkpoint.Tensor]] = [:]
    for tensor in b.tensors.reversed() { waiting[namesB.canonical(tensor.name), default: []].append(tensor) }
    for tensor in a.tensors {
      let name = namesA.canonical(tensor.name)
      if let counterpart = waiting[name]?.popLast() {
        pairs.append((tensor, counterpart))
      } else if !Self.isAbsorbed(tensor, in: a, by: b, named: name, waiting) {
        onlyInA.append(tensor.name)
      }
    }
    let paired = Dictionary(pairs.map { ($0.b.name, $0.a) }, uniquingKeysWith: { first, _ in first })
    for tensor in b.tensors {
      guard waiting[namesB.canonical(tensor.name)]?.contains(tensor) == true else { continue }
      // A scale of `b` is accounted for when its weight has a partner that is no scaled weight itself.
      if let weight = BlockScales.weightName(ofScale: tensor.name), let partner = paired[weight],
        BlockScales.scaleTensor(of: partner, in: a) == nil, b[weight]?.elementType == .f8E4M3
      {
        continue
      }
      onlyInB.append(tensor.name)
    }
  }

  private static func isAbsorbed(
    _ tensor: Checkpoint.Tensor, in a: Checkpoint, by b: Checkpoint, named name: String,
    _ waiting: [String: [Checkpoint.Tensor]]
  ) -> Bool {
    guard let weight = BlockScales.weightName(ofScale: name), a[weight]?.elementType == .f8E4M3 else {
      return false
    }
    // Whether the weight has a partner shows in `b` under any of its names: the partner was waiting at the start.
    return waiting[weight] != nil
  }
}
