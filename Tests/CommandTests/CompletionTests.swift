import CommandSupport
import Foundation
import Testing

/// The completions that the tools offer, requested as the shells' scripts request them.
@Suite struct CompletionTests {
  /// The first line, which says what paths complete to, and the texts of the others.
  private func answer(
    _ tool: String, _ words: [String], shell: String = "zsh"
  ) throws -> (paths: String, texts: [String]) {
    let result = try runTool(tool, ["---complete", shell] + words)
    #expect(result.status == 0 && result.error.isEmpty)
    let lines = result.output.split(separator: "\n").map(String.init)
    return (lines.first ?? "", lines.dropFirst().map { String($0.prefix { $0 != "\t" }) })
  }

  private let tiny = "Fixtures/checkpoints/tiny"

  @Test func theFirstWordIsASubcommandOrAnArgumentOfTheDefaultOne() throws {
    let empty = try answer("step3-convert", [""])
    #expect(empty.paths == "files")
    #expect(empty.texts.starts(with: ["convert", "plan", "run"]) && !empty.texts.contains("help"))
    #expect(try answer("step3-verify", ["che"]).texts == ["checksums"])
    // The worker subcommand that disaggregated runs start is not offered.
    #expect(try answer("step3-verify", ["ffn"]).texts.isEmpty)
    #expect(try answer("step3-convert", ["--quan"]).texts == ["--quantize"])
    #expect(try answer("step3-inspect", ["stats", "--fi"]).texts == ["--filter"])
  }

  @Test func onlyValidValuesAreOffered() throws {
    #expect(try answer("step3-convert", ["a", "b", "--to", ""]).texts == ["safetensors", "gguf", "archive"])
    #expect(
      try answer("step3-convert", ["plan", "a", "--quantize", "q4_k"]).texts == ["Q4_K_M", "Q4_K_S", "Q4_K"])
    #expect(try answer("step3-convert", ["plan", "a", "--quantize", "q4_k"]).paths == "files")
    #expect(try answer("step3-convert", ["a", "b", "--imatrix", ""]).paths == "files")
    #expect(try answer("step3-convert", ["a", ""]).paths == "directories")
    // An option given once is not offered again unless it may be repeated.
    #expect(try !answer("step3-convert", ["--to", "gguf", "--t"]).texts.contains("--to"))
    #expect(try answer("step3-convert", ["--exclude", "a", "--exc"]).texts == ["--exclude"])
  }

  @Test func anEqualSignIsPartOfTheWordExceptInBash() throws {
    #expect(try answer("step3-convert", ["--to=g"]).texts == ["--to=gguf"])
    #expect(try answer("step3-convert", ["--to", "=", "g"], shell: "bash").texts == ["gguf"])
    #expect(
      try answer("step3-convert", ["--to", "="], shell: "bash").texts == ["safetensors", "gguf", "archive"])
  }

  @Test func tensorNamesComeFromTheCheckpointOnTheLine() throws {
    #expect(try answer("step3-inspect", ["list", tiny, "--filter", "moe.u"]).texts == ["moe.up_proj"])
    #expect(try answer("step3-inspect", ["list", "nowhere", "--filter", "moe.u"]).texts.isEmpty)
    let words = ["plan", tiny, "--to", "gguf", "--tensor-type"]
    #expect(try answer("step3-convert", words + ["moe.d"]).texts == ["moe.down_proj="])
    #expect(
      try answer("step3-convert", words + ["moe.down_proj=Q6"]).texts == ["moe.down_proj=Q6_K"])
  }

  @Test(arguments: ["bash", "zsh", "fish"])
  func eachShellHasAScript(_ shell: String) throws {
    let script = try runTool("step3-verify", ["--generate-completion-script", shell])
    #expect(script.status == 0 && script.output.contains("---complete \(shell)"))
    #expect(try runTool("step3-verify", ["--generate-completion-script=" + shell]).output == script.output)
    #expect(try runTool("step3-verify", ["--generate-completion-script", "tcsh"]).status == 64)
  }
}
