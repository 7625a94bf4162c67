// run-logits PATH TEXT: the five most likely tokens after a text.
import Checkpoint
import Step3Runtime
import StoredWeights
import Tokenization

let checkpoint = try Checkpoint.open(CommandLine.arguments[1])
let tokenizer = try Tokenizer(of: checkpoint)
let tokens = try tokenizer.encode(CommandLine.arguments[2], addSpecialTokens: true)
let runner = try ModelRunner(
  try ModelWeights(checkpoint), options: RuntimeOptions(threads: 2, memory: 1 << 30))
let batch = TokenBatch([tokens])
let hidden = try runner.run(batch)
let logits = try runner.model.logits(hidden.copy(rows: tokens.count - 1..<tokens.count)).array
for token in logits.indices.sorted(by: { logits[$0] > logits[$1] }).prefix(5) {
  print(token, logits[token], tokenizer.decode([token]))
}
