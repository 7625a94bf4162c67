import TensorFormats
import Testing

@Suite struct NearestNameTests {
  private static let names = ["accelerators", "context", "batch", "stages", "ffn"]

  @Test(arguments: [
    ("contex", "context"), ("Batch", "batch"), ("stage", "stages"), ("acelerators", "accelerators"),
    ("fn", "ffn"), ("context", "context"),
  ])
  func slipsOfTheHand(name: String, meant: String) {
    #expect(NearestName.suggestion(for: name, among: Self.names) == meant)
  }

  /// What is like none of them is not explained away.
  @Test(arguments: ["network", "x", "", "efficiency"])
  func otherWords(name: String) { #expect(NearestName.suggestion(for: name, among: Self.names) == nil) }

  @Test func theNearestIsAlwaysThere() {
    #expect(NearestName.nearest(to: "batches", among: Self.names) == "batch")
    #expect(NearestName.nearest(to: "anything", among: [String]()) == nil)
    // Letters beyond the 64th do not count, however many there are.
    let long = String(repeating: "a", count: 1_000_000)
    #expect(NearestName.nearest(to: long, among: ["b", String(long.prefix(64))]) == String(long.prefix(64)))
  }
}
