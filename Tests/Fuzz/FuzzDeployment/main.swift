import ByteStreams
import Deployment
import Foundation
import FuzzSupport
import TensorFormats

/// The models to plan for: with experts, without, with states instead of a KV cache.
let shapes = DecoderShape.reported

/// Any bytes as a deployment file: refused with an error, or planned with finite costs.
func check(_ text: [UInt8]) {
  guard let request = try? DeploymentRequest(file: MemorySource(text)) else { return }
  require(!request.accelerators.isEmpty, "a deployment without cards")
  for shape in shapes {
    guard let plan = try? DeploymentPlan(shape, request) else { continue }
    require(plan.costs.count == request.accelerators.count, "a card without a cost")
    require(plan.costs.allSatisfy { $0.attentionSeconds > 0 }, "attention for nothing")
    require(!plan.disaggregated.cost.isNaN, "a cost that is not a number")
    if let instances = plan.instances {
      require(instances.attention.machines > 0 && instances.feedForward.machines > 0, "no machine")
    }
  }
  require((try? DeploymentRequest(file: MemorySource(text))) == request, "it reads differently again")
}

exit(
  runFuzzer { bytes, count in
    check(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
  })
