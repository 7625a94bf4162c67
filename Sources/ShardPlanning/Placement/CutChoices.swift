internal import Checkpoint
internal import TensorFormats

/// Where a box was cut from its tensor, so that an error can say what would fit.
struct Cut: Hashable {
  /// The option that sets the number of pieces.
  enum Option: Hashable {
    case attentionTP, ffnTP
    /// `--ffn-ep` times `--ffn-tp`: what all FFN ranks share.
    case ffnRanks
  }

  /// The dimension.
  let axis: Int
  /// The option.
  let option: Option

  /// The numbers of pieces that a dimension of `length` can be cut into so that each is a multiple of `unit`, as text.
  func choices(length: Int, unit: Int) -> String {
    let fitting = Cut.divisors(upTo: PartIdentity.mostRanks) { length % ($0 * unit) == 0 }
    // One piece is not a cut, and always fits.
    let list = Cut.list(fitting.isEmpty ? [1] : fitting)
    return switch option {
    case .attentionTP: "--attention-tp \(list) would fit this tensor"
    case .ffnTP: "--ffn-tp \(list) would fit this tensor"
    case .ffnRanks: "\(list) FFN ranks in all (--ffn-ep times --ffn-tp) would fit this tensor"
    }
  }

  /// The numbers from 1 to `limit` that pass a test.
  static func divisors(upTo limit: Int, where fits: (Int) -> Bool) -> [Int] { (1...limit).filter(fits) }

  /// `1`, `1 or 2`, `1, 2 or 4`
  static func list(_ numbers: [Int]) -> String {
    guard let last = numbers.last else { return "none" }
    let rest = numbers.dropLast().map(String.init).joined(separator: ", ")
    return rest.isEmpty ? "\(last)" : "\(rest) or \(last)"
  }
}

/// Which numbers of FFN ranks divide all tensors of the FFN side evenly.
struct FFNChoices {
  /// The smallest number of experts in a stack.
  let experts: Int
  /// The lengths that tensor parallelism cuts, in expert stacks and in what all FFN ranks share.
  let expertLengths: Set<Int>
  let sharedLengths: Set<Int>

  init(_ sources: [SourceTensor]) {
    var (expertLengths, sharedLengths, experts) = (Set<Int>(), Set<Int>(), Int.max)
    for source in sources where source.side == .ffn {
      if source.isExpertStack { experts = min(experts, source.shape.dimensions.first ?? 0) }
      guard let axis = source.tensorParallelAxis, axis < source.shape.rank else { continue }
      let length = source.shape.dimensions[axis]
      if source.isExpertStack { expertLengths.insert(length) } else { sharedLengths.insert(length) }
    }
    (self.experts, self.expertLengths, self.sharedLengths) = (experts, expertLengths, sharedLengths)
  }

  /// Whether everything can be divided between that many ranks.
  func fits(ep: Int, tp: Int) -> Bool {
    ep <= experts && expertLengths.allSatisfy { $0 % tp == 0 }
      && sharedLengths.allSatisfy { $0 % (ep * tp) == 0 }
  }

  /// Alternatives, as text.
  func remedy(instead layout: ShardPlan.AFDLayout) -> String {
    let most = PartIdentity.mostRanks
    let tensor = Cut.divisors(upTo: most) { fits(ep: layout.ffnEP, tp: $0) }
    let expert = Cut.divisors(upTo: most) { fits(ep: $0, tp: layout.ffnTP) }
    var choices: [String] = []
    if !tensor.isEmpty {
      choices.append("with --ffn-ep \(layout.ffnEP), --ffn-tp \(Cut.list(tensor)) would fit")
    }
    if !expert.isEmpty {
      choices.append("with --ffn-tp \(layout.ffnTP), --ffn-ep \(Cut.list(expert)) would fit")
    }
    if choices.isEmpty {
      let alone = Cut.divisors(upTo: most) { fits(ep: $0, tp: 1) }
      choices.append("without --ffn-tp, --ffn-ep \(Cut.list(alone)) would fit")
    }
    return choices.joined(separator: "; ")
  }
}
