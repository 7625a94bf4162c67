import ServingEngines
import ShardPlanning
import Step3Model
import TensorFormats

/// Commands to run after a conversion, cheapest first, with its paths filled in: `Manuals/trust.md` says what each
/// proves.
struct NextSteps: Encodable {
  /// One command.
  struct Step: Encodable {
    let command: String
    let purpose: String
  }

  let steps: [Step]

  /// - Parameters:
  ///   - source: As the user named it.
  ///   - isArchive: Whether the output is an archive, which engines cannot read.
  init(output: String, source: String, plan: ShardPlan, engines: PlannedEngines?, isArchive: Bool) {
    let (output, source) = (Self.quoted(output), Self.quoted(source))
    let name = plan.source.architecture
    let isFamily =
      ModelFamily(modelType: name, architectures: []) ?? ModelFamily(ggufArchitecture: name, projector: nil)
      != nil
    let partition = plan.request.partition != .none
    var steps = [
      Step(command: "step3-verify checksums \(output)", purpose: "every byte is what was written"),
      Step(
        command: "step3-verify tensors \(output) --source \(source)",
        purpose: "every weight is where it belongs"),
    ]
    if isFamily {
      steps.append(
        Step(
          command: "step3-verify logits \(output) --reference \(source) --prompt \"...\""
            + (partition ? " --afd" : ""),
          purpose: "the model still gives the same answers"))
    }
    if isArchive {
      steps.append(Step(command: "step3-convert restore \(output) DIRECTORY", purpose: "for engines"))
    } else {
      for verdict in engines?.verdicts ?? [] where verdict.ok {
        // More cards than one machine has need more than a one-line command.
        guard let ranks = verdict.largestTP.map({ min($0, 8) }), ranks > 0 else { continue }
        steps += Self.serving(output, engine: verdict.engine, ranks: ranks)
      }
    }
    self.steps = steps
  }

  /// The engine's own command; further options from StepFun's guide are in `Manuals/serving.md`.
  private static func serving(_ output: String, engine: String, ranks: Int) -> [Step] {
    switch engine {
    case Engine.vllm.name:
      [
        Step(
          command: "vllm serve \(output) --tensor-parallel-size \(ranks) --trust-remote-code",
          purpose: "serve it")
      ]
    case Engine.sglang.name:
      [
        Step(
          command: "python -m sglang.launch_server --model-path \(output) --tp \(ranks) --trust-remote-code",
          purpose: "serve it")
      ]
    default: []
    }
  }

  /// Each command on a line, followed by its purpose.
  var text: String { "  next:\n" + steps.map { "    \($0.command)\n        # \($0.purpose)\n" }.joined() }

  /// A path quoted for the shell, and never mistaken for an option.
  static func quoted(_ path: String) -> String {
    let path = path.hasPrefix("-") ? "./" + path : path
    let plain = path.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"):
        true
      default: "/._-+:@,".utf8.contains(byte)
      }
    }
    return plain && !path.isEmpty
      ? path
      : "'" + path.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
  }
}
