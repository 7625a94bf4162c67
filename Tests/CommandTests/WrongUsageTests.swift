import CommandSupport
import Foundation
import Testing

/// Wrong command lines, and the help that is meant to prevent them.
@Suite struct WrongUsageTests {
  @Test(
    arguments: [
      ("step3-inspect", ["lst"], "did you mean the subcommand list?", Int32(66)),
      ("step3-inspect", ["lst", "Fixtures"], "did you mean the subcommand list?", 64),
      ("step3-verify", ["chekcsums", "x"], "did you mean the subcommand checksums?", 64),
      ("step3-convert", ["plann", "x"], "did you mean the subcommand plan?", 64),
      ("step3-convert", ["a", "b", "--to", "gguf", "--quantise", "Q4_0"], "Did you mean '--quantize'?", 64),
    ])
  func aTypoGetsASuggestion(_ tool: String, _ arguments: [String], _ question: String, _ status: Int32) throws
  {
    let result = try runTool(tool, arguments)
    #expect(result.status == status)
    #expect(result.error.contains(question), "\(result.error)")
    #expect(result.error.hasPrefix("\(tool): error: "))
  }

  @Test(
    arguments: [
      ("step3-inspect", ["metadata", "x", "--rule", "norm"]), ("step3-convert", ["plan", "x", "--ep", "3"]),
      ("step3-inspect", ["metadata", "x", "--colt"]),
    ])
  func whatIsNotATypoGetsNoSuggestion(_ tool: String, _ arguments: [String]) throws {
    let result = try runTool(tool, arguments)
    #expect(result.status == 64)
    #expect(!result.error.lowercased().contains("did you mean"), "\(result.error)")
  }

  /// A path is never taken for a misspelt subcommand.
  @Test func aPathIsNotTakenForASubcommand() throws {
    #expect(try !runTool("step3-inspect", ["./lst"]).error.contains("did you mean"))
  }

  @Test(
    arguments: [
      ("Q4KM", "did you mean Q4_K_M?"), ("q4-k-m", "did you mean Q4_K_M?"), ("W4A15", "did you mean W4A16?"),
      ("IQ5_XS", "did you mean IQ2_XS or IQ4_XS?"), ("nonsense", "step3-convert recipes lists"),
    ])
  func misspeltRecipesGetASuggestion(_ name: String, _ remedy: String) throws {
    let container = name.hasPrefix("W") ? "safetensors" : "gguf"
    let result = try runTool(
      "step3-convert", ["plan", "Fixtures/checkpoints/tiny", "--to", container, "--quantize", name])
    #expect(result.status == 64)
    #expect(result.error.contains(remedy), "\(result.error)")
  }

  @Test(
    arguments: [
      ["--json"], ["lst", "x", "--json"], ["list", "--json", "--sort", "nothing"],
      ["stats", "--json", "--rule"],
    ])
  func wrongUsageIsReportedAsJSONOnRequest(_ arguments: [String]) throws {
    let result = try runTool("step3-inspect", arguments)
    #expect(result.status == 64 && result.output.isEmpty)
    let document = try JSONSerialization.jsonObject(with: Data(result.error.utf8)) as? [String: Any]
    let error = try #require(document?["error"] as? [String: Any])
    #expect(error["code"] as? String == "invalidRequest" && error["exitCode"] as? Int == 64)
    #expect((error["message"] as? String)?.isEmpty == false)
    #expect((error["remedy"] as? String)?.contains("Usage: step3-inspect") == true)
  }

  @Test(
    arguments: [
      ("step3-convert", "--quantize <recipe>", "plan "), ("step3-inspect", "--filter <regex>", "stats "),
    ])
  func helpShowsTheDefaultSubcommandsOptions(_ tool: String, _ option: String, _ subcommand: String) throws {
    let help = try runTool(tool, ["--help"])
    #expect(help.status == 0)
    #expect(help.output.contains("\n  \(option)") && help.output.contains("\n  \(subcommand)"))
    #expect(help.output.split(separator: "\n").allSatisfy { $0.count <= 80 })
    #expect(try runTool(tool, ["-h"]).output == help.output)
    #expect(try runTool(tool, ["help"]).output == help.output)
  }

  @Test func textIsBrokenBetweenWords() {
    #expect("one two three".wrapped(to: 9) == "one two\n  three")
    #expect("one two three".wrapped(to: nil) == "one two three")
    // A path longer than a line is still one word.
    #expect("see /a/very/long/path now".wrapped(to: 12) == "see\n  /a/very/long/path\n  now")
  }
}
