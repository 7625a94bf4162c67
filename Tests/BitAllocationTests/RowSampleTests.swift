import Testing

import BitAllocation

@Suite struct RowSampleTests {
  @Test(
    "rows are spread evenly over the matrices, none twice, and all are taken where there are few",
    arguments: [
      (1, 7, 64), (1, 1000, 64), (48, 5120, 74), (48, 5120, 20), (8, 3, 500), (3, 1, 2), (512, 1536, 96),
    ])
  func spread(matrices: Int, rows: Int, wanted: Int) {
    let sample = RowSample(named: "blk.4.ffn_up_exps.weight", matrices: matrices, rows: rows, wanted: wanted)
    let most = min(matrices * rows, max(wanted, matrices))
    #expect(sample.count == most || sample.count < most && rows < (wanted + matrices - 1) / matrices)
    #expect(sample.runs.map(\.matrix) == Array(Set(sample.runs.map(\.matrix))).sorted())
    for run in sample.runs {
      #expect(run.rows == Array(Set(run.rows)).sorted() && !run.rows.isEmpty)
      #expect(run.rows.allSatisfy { (0..<rows).contains($0) } && (0..<matrices).contains(run.matrix))
    }
    #expect(sample.runs.count == matrices)
    let counts = sample.runs.map(\.rows.count)
    #expect((counts.max() ?? 0) - (counts.min() ?? 0) <= 1)
  }

  @Test func theSampleDependsOnTheNameAlone() {
    func rows(_ name: String) -> [RowSample.Run] {
      RowSample(named: name, matrices: 4, rows: 4096, wanted: 64).runs
    }
    #expect(rows("a") == rows("a") && rows("a") != rows("b"))
  }

  @Test func hugeTensorsDoNotOverflow() {
    let sample = RowSample(named: "x", matrices: 1 << 20, rows: 1 << 36, wanted: 10)
    #expect(sample.count == 1 << 20)
  }
}
