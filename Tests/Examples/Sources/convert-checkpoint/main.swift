// convert-checkpoint SOURCE OUTPUT RECIPE: plans a conversion to GGUF, prints a summary, and runs it.
import Checkpoint
import Conversion
import QuantizationRecipes
import ShardPlanning

let (source, output, recipe) = (CommandLine.arguments[1], CommandLine.arguments[2], CommandLine.arguments[3])
let checkpoint = try Checkpoint.open(source)
let planned = try ShardPlanner.plan(
  checkpoint, request: .init(format: .gguf, recipe: recipe), recipe: Recipe.named(recipe))
// A plan is a value: only headers have been read, and nothing written.
print("\(planned.plan.sourceBytes) bytes -> \(planned.plan.outputBytes) bytes")
let outcome = try await Conversion(planned, options: ConversionOptions(threads: 2)).run(into: output)
print("\(outcome.manifest.tensors.count) tensors, root digest \(outcome.manifest.digest)")
