import CheckpointTesting
import CommandSupport
import Foundation
import Testing

/// Several checkpoints at once, folded rows, Markdown, percentiles and charts.
@Suite("step3-inspect on several checkpoints") struct InspectListsTests {
  private let directory: TemporaryDirectory

  init() throws {
    directory = try TemporaryDirectory()
    for (name, value) in [("a", Float(1)), ("b", 2), ("c[1]", 3)] {
      var file = WeightFile()
      file.add("w.\(name)", "F32", [Float](repeating: value, count: 3))
      try file.write(to: directory.path("\(name).safetensors"))
    }
  }

  private func array(_ result: ToolResult) throws -> [[String: Any]] {
    try #require(try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [[String: Any]])
  }

  @Test("several paths give a JSON array", arguments: ["list", "stats"])
  func severalPaths(command: String) throws {
    let paths = ["b", "a"].map { directory.path("\($0).safetensors") }
    let result = try runTool("step3-inspect", [command] + paths + ["--json"])
    #expect(result.status == 0)
    #expect(try array(result).map { $0["path"] as? String } == paths)
    let text = try runTool("step3-inspect", [command] + paths)
    #expect(
      text.output.contains("==> \(paths[0]) <==\n") && text.output.contains("\n\n==> \(paths[1]) <==\n"))
    // A single path still gives a single object.
    #expect(
      try runTool("step3-inspect", [command, paths[0], "--json"]).json()["path"] as? String == paths[0])
    #expect(try !runTool("step3-inspect", [command, paths[0]]).output.contains("==>"))
  }

  @Test func patternsAreExpanded() throws {
    let found = try array(try runTool("step3-inspect", ["list", directory.path("?.safetensors"), "--json"]))
    #expect(found.map { $0["path"] as? String } == ["a", "b"].map { directory.path("\($0).safetensors") })
    // A file of that name is not a pattern.
    let literal = try runTool("step3-inspect", ["list", directory.path("c[1].safetensors"), "--json"])
    #expect(try literal.json()["path"] as? String == directory.path("c[1].safetensors"))
    let none = try runTool("step3-inspect", ["list", directory.path("*.gguf")])
    #expect(none.status == 66 && none.output.isEmpty)
    #expect(none.error.contains("*.gguf: nothing matches this pattern"))
  }

  @Test func aFailureDoesNotStopTheOthersAndTheFirstSetsTheStatus() throws {
    try Data("no".utf8).write(to: URL(filePath: directory.path("broken.safetensors")))
    let paths = ["broken", "a", "missing", "b"].map { directory.path("\($0).safetensors") }
    let result = try runTool("step3-inspect", ["list"] + paths + ["--json"])
    #expect(result.status == 65)
    #expect(try array(result).count == 2)
    let errors = result.error.split(separator: "\n")
    #expect(
      errors.count == 2 && errors[0].contains("broken.safetensors")
        && errors[1].contains("missing.safetensors"))
    #expect(errors.allSatisfy { $0.contains(", \"error\": { ") })
    #expect(try runTool("step3-inspect", ["list", paths[2], paths[0], paths[1]]).status == 66)
  }

  @Test func foldedRowsAddUpToAllTensors() throws {
    let path = Fixtures.path("checkpoints/tiny")
    let json = try runTool("step3-inspect", ["list", path, "--fold", "--json"]).json()
    let rows = try #require(json["folded"] as? [[String: Any]])
    #expect(json["tensors"] == nil)
    let plain = try runTool("step3-inspect", ["list", path, "--json"]).json()
    #expect(rows.reduce(0) { $0 + ($1["count"] as? Int ?? 0) } == (plain["tensors"] as? [Any])?.count)
    #expect(json["bytes"] as? Int == plain["bytes"] as? Int)
    let text = try runTool("step3-inspect", ["list", path, "--fold", "--filter", "moe.up"]).output
    #expect(text.contains("2 ×  model.layers.[1-2].moe.up_proj.weight  BF16  8×256×256  2.10 MB"))
    #expect(text.contains("parameters    1,048,576"))
  }

  @Test func percentilesAndChartsArePrintedOnRequest() throws {
    var file = WeightFile()
    file.add("w", "F32", (0...1000).map { Float($0) / 8 - 50 })
    file.add("empty", "F32", [0], Data())
    file.add("nothing", "F32", [Float.nan])
    try file.write(to: directory.path("w.safetensors"))
    let path = directory.path("w.safetensors")
    let json = try runTool("step3-inspect", ["stats", path, "--percentiles", "--json"]).json()
    let tensors = try #require(json["tensors"] as? [[String: Any]])
    let distribution = try #require(tensors[0]["distribution"] as? [String: Any])
    let percentiles = try #require(distribution["percentiles"] as? [String: Double])
    for (name, value) in [
      ("p0.1", -49.875), ("p1", -48.75), ("p50", 12.5), ("p99", 73.75), ("p99.9", 74.875),
    ] {
      #expect(abs(try #require(percentiles[name]) - value) <= abs(value) / 256, "\(name)")
    }
    let counts = try #require((distribution["histogram"] as? [String: Any])?["counts"] as? [Int])
    #expect(counts.count == 64 && counts.reduce(0, +) == 1001)
    #expect(tensors[1]["distribution"] is NSNull && tensors[2]["distribution"] is NSNull)
    let plain = try runTool("step3-inspect", ["stats", path, "--json"]).json()
    #expect((plain["tensors"] as? [[String: Any]])?[0]["distribution"] is NSNull)

    for (locale, mark) in [("C.UTF-8", "█"), ("C", "#")] {
      let text = try runTool(
        "step3-inspect", ["stats", path, "--histogram"], environment: ["LC_ALL": locale]
      ).output
      #expect(text.contains(mark) && text.contains("-50") && text.contains("no finite values"))
      #expect(locale != "C" || !text.contains("█"))
    }
  }

  @Test func listsOneRoleOnly() throws {
    let json = try runTool(
      "step3-inspect", ["stats", Fixtures.path("checkpoints/tiny"), "--role", "router", "--json"]
    ).json()
    let names = (json["tensors"] as? [[String: Any]])?.map { $0["name"] as? String }
    #expect(names == ["model.layers.1.moe.gate.weight", "model.layers.2.moe.gate.weight"])
  }

  @Test func outputFormatsExcludeEachOther() throws {
    for arguments in [
      ["list", "x", "--markdown", "--json"], ["stats", "x", "--markdown", "--json"],
      ["diff", "x", "y", "--markdown", "--json"], ["diff", "x", "y", "--exact", "--headers-only"],
    ] {
      #expect(try runTool("step3-inspect", arguments).status == 64)
    }
  }

  @Test func hostileNamesStayTextInMarkdown() {
    let table = { (name: String) in
      var table = TextTable([.init("tensor"), .init("size", .right)])
      table.append([name, "1.5 MB"])
      return table.markdown().split(separator: "\n").map(String.init)
    }
    #expect(table("a_b.c") == ["| tensor | size |", "| --- | ---: |", "| `a_b.c` | 1.5 MB |"])
    #expect(table("a|b`<i>\\|")[2] == "| <code>a&#124;b&#96;&#60;i&#62;&#92;&#124;</code> | 1.5 MB |")
    #expect(table("www.x")[2].hasPrefix("| `www.x` |"))
    #expect(table("a\nb")[2].split(separator: "|").count == 2)
  }

  @Test func chartsFitAndShowEveryValue() {
    let counts = (0..<64).map { $0 == 10 ? 1 : $0 == 50 ? 1_000_000 : 0 }
    let lines = BarChart.lines(counts, width: 80, usesUnicode: true)
    #expect(lines.count == 4 && lines[0] == String(repeating: " ", count: 50) + "█")
    // A single value among a million is visible.
    #expect(lines[3].count == 51 && lines[3].contains("▂"))
    let narrow = BarChart.lines(counts, width: 20, usesUnicode: false)
    #expect(narrow.allSatisfy { $0.count <= 20 } && narrow[3].filter { $0 != " " }.count == 2)
    #expect(BarChart.lines([0, 0], width: 9, usesUnicode: true) == ["", "", "", ""])
  }
}
