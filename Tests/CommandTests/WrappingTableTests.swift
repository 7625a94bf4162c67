import CommandSupport
import Testing

/// Tables on terminals that are too narrow for them.
@Suite struct WrappingTableTests {
  @Test func aNameThatDoesNotFitHasALineOfItsOwn() {
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
    // Where there is room, a row is a line.
    #expect(table.rendered(width: 60).split(separator: "\n").count == 3)
    #expect(table.rendered().split(separator: "\n").count == 3)
  }
}
