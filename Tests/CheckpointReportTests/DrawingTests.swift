import CheckpointReport
import CheckpointTesting
import Testing

@Suite("drawings of a report") struct DrawingTests {
  @Test("a treemap fills its frame, in proportion, without overlaps", arguments: 1...40)
  func treemap(count: Int) {
    var generator = SeededGenerator(seed: UInt64(count))
    let weights = (0..<count).map { _ in Double.random(in: 0.001...1, using: &generator) }.sorted(by: >)
    let frame = Frame(x: 3, y: 5, width: Double.random(in: 10...900, using: &generator), height: 300)
    let frames = Treemap.layout(weights, in: frame)
    #expect(frames.count == count)
    let total = weights.reduce(0, +)
    for (index, part) in frames.enumerated() {
      #expect(abs(part.area / frame.area - weights[index] / total) < 1e-9)
      #expect(part.x >= frame.x - 1e-6 && part.x + part.width <= frame.x + frame.width + 1e-6)
      #expect(part.y >= frame.y - 1e-6 && part.y + part.height <= frame.y + frame.height + 1e-6)
      for other in frames[..<index] {
        let width = min(part.x + part.width, other.x + other.width) - max(part.x, other.x)
        let height = min(part.y + part.height, other.y + other.height) - max(part.y, other.y)
        #expect(width < 1e-6 || height < 1e-6)
      }
    }
  }

  @Test("equal weights become nearly square rectangles")
  func squares() {
    let frames = Treemap.layout(
      [Double](repeating: 1, count: 48), in: Frame(x: 0, y: 0, width: 800, height: 300))
    for frame in frames { #expect(max(frame.width / frame.height, frame.height / frame.width) < 2) }
  }

  @Test("a treemap of nothing, or of zeros, is empty")
  func empty() {
    let frame = Frame(x: 0, y: 0, width: 10, height: 10)
    #expect(Treemap.layout([], in: frame).isEmpty)
    #expect(Treemap.layout([0, 0], in: frame).allSatisfy { $0.area == 0 })
    #expect(Treemap.layout([3, 0], in: frame).map(\.area) == [100, 0])
  }

  @Test("markup in text is escaped, and invisible characters are shown")
  func escaping() {
    #expect("</script><b a='\"&".escapedForMarkup == "&lt;/script&gt;&lt;b a=&#39;&quot;&amp;")
    #expect("a\u{202E}b\u{0}\u{2028}c".escapedForMarkup == "a\\u{202e}b\\u{0}\\u{2028}c")
  }

  @Test("a heat map's colours run from the smallest value to the largest on a logarithmic scale")
  func levels() throws {
    let grid = try #require(
      FigureGrid("errors", [("a", 0, 0.001), ("a", 1, 0.01), ("a", 2, 0.1), ("b", 0, 0)]))
    let map = try #require(HeatMap(grid, number: 0))
    #expect(map.level(0) == 0)
    #expect(map.level(0.001) == 1)
    #expect(map.level(0.0099) == 5)
    #expect(map.level(0.1) == HeatMap.levels)
    #expect(map.level(.infinity) == HeatMap.levels)
    #expect(HeatMap(try #require(FigureGrid("exact", [("a", 0, 0)])), number: 0) == nil)
  }

  @Test("of values that share a cell the largest counts; cells without values stay empty")
  func grids() throws {
    let grid = try #require(FigureGrid("errors", [("up", 7, 0.5), ("down", 3, 0.25), ("up", 7, 0.75)]))
    #expect(grid.rows == ["up", "down"])
    #expect(grid.columns == ["3", "7"])
    #expect(grid.values == [[nil, 0.75], [0.25, nil]])
    #expect(FigureGrid("none", []) == nil)
  }
}
