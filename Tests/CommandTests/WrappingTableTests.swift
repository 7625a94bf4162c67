import CommandSupport
import Testing

/// Tables on narrow terminals.
@Suite struct WrappingTableTests {
  @Test func aNameThatDoesNotFitGetsItsOwnLine() {
    var table = TextTable([.init("tensor", wraps: true), .init("type"), .init("size", .right)])
    table.append(["short", "BF16", "1 MB"])
    table.append(["layers.10.self_attn.q_proj.weight", "F32", "10 MB"])
    #expect(
      table.rendered(width: 27) == """
        tensor          type   size
        short           BF16   1 MB
        layers.10.self_attn.q_proj.weight
                        F32   10 MB

        """)
    // Where there is room, a row is a single line.
    #expect(table.rendered(width: 60).split(separator: "\n").count == 3)
    #expect(table.rendered().split(separator: "\n").count == 3)
  }

  @Test func sentencesAreBrokenBetweenWords() {
    var table = TextTable([.init("recipe"), .init("what it does", isProse: true)])
    table.append(["Q4_K", "every matrix in Q4_K"])
    #expect(
      table.rendered(width: 20) == """
        recipe  what it does
        Q4_K    every matrix
                in Q4_K

        """)
    #expect(table.rendered(width: 40).split(separator: "\n").count == 2)
  }

  @Test func optionalColumnsAreDroppedBeforeTheTableIsTooWide() {
    var table = TextTable([
      .init("tensor", wraps: true), .init("error", .right), .init("cosine", .right, isOptional: true),
    ])
    table.append(["a", "0.0123", "0.999"])
    #expect(table.rendered(width: 22).contains("cosine"))
    #expect(!table.rendered(width: 21).contains("cosine"))
    #expect(table.rendered(width: 21).contains("0.0123"))
  }
}
