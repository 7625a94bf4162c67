internal import Checkpoint

/// Where a tensor lives when attention and FFN run on different accelerators (attention-FFN disaggregation), and how
/// it may be cut there.
///
/// Source: Step-3 system report (arXiv 2507.19427), section 7.1 and figure 6. The shared expert and the dense layers
/// on the FFN side, and the vision side as a part of its own, are inferred from its cost figures.
public struct Step3Placement: Hashable, Sendable {
  /// A group of accelerators.
  public enum Side: String, Hashable, Sendable, CaseIterable, Codable {
    case attention, ffn, vision
  }

  /// Where the router lives: the report says attention, a public engine branch has it on the FFN side.
  public enum RouterSide: String, Hashable, Sendable, CaseIterable, Codable {
    case attention, ffn
  }

  /// Where the router lives.
  public var router: RouterSide

  /// Makes a placement rule.
  public init(router: RouterSide = .attention) { self.router = router }

  /// The side of a tensor. A scale lives with its weight.
  public func side(of name: Step3TensorName) -> Side {
    switch name.module.role {
    case .routedExperts, .sharedExpert, .denseFFN: .ffn
    case .router: router == .ffn ? .ffn : .attention
    case .vision, .projector: .vision
    default: .attention
    }
  }

  /// The row-major axis along which tensor parallelism cuts a module's weight; `nil` where every rank has all of it.
  ///
  /// Scales of tiles are cut along the same axis. Attention: heads, that is rows of `wq` and columns of `o_proj`; the
  /// single key and value head stays whole. FFN: the intermediate dimension, that is rows of gate and up and columns
  /// of down, in each expert, in the shared expert and in dense layers (these two across all FFN ranks).
  public static func tensorParallelAxis(of module: Step3Module) -> Int? {
    switch module {
    case .queryUp, .denseGate, .denseUp, .sharedGate, .sharedUp: 0
    case .attentionOutput, .denseDown, .sharedDown, .expertGate, .expertUp: 1
    case .expertDown: 2
    default: nil
    }
  }

  /// The axis along which expert parallelism cuts: the outermost of an expert stack; `nil` for everything else.
  public static func expertParallelAxis(of module: Step3Module) -> Int? {
    module.role == .routedExperts ? 0 : nil
  }
}
