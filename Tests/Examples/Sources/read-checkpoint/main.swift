// read-checkpoint PATH NAME: the shape and the first values of a weight, however it is stored.
import Checkpoint
import StoredWeights

let (path, name) = (CommandLine.arguments[1], CommandLine.arguments[2])
let checkpoint = try Checkpoint.open(path)
let weights = try ModelWeights(checkpoint)
let values = try weights.values(of: name)
print("\(checkpoint.tensors.count) tensors in \(checkpoint.files.count) files")
print(name, weights[name]?.shape.description ?? "", values.prefix(4))
