import CheckpointTesting
import Foundation
import Testing

/// Exit codes and messages of `step3-inspect` when something is wrong.
@Suite("step3-inspect failures") struct InspectFailureTests {
  @Test func aMissingInputExitsWith66() throws {
    let result = try runTool("step3-inspect", ["/nowhere/at/all"])
    #expect(result.status == 66)
    #expect(result.output.isEmpty)
    #expect(result.error.hasPrefix("step3-inspect: error: /nowhere/at/all: "))
  }

  @Test func errorsAreJSONWhenResultsAre() throws {
    let result = try runTool("step3-inspect", ["stats", "/nowhere/at/all", "--json"])
    #expect(result.status == 66)
    #expect(result.output.isEmpty)
    let json = try JSONSerialization.jsonObject(with: Data(result.error.utf8)) as? [String: Any]
    #expect(json?["schema"] as? String == "urn:step3-toolkit:error:1")
    let error = try #require(json?["error"] as? [String: Any])
    #expect(error["code"] as? String == "notFound")
    #expect(error["path"] as? String == "/nowhere/at/all")
    #expect(error["exitCode"] as? Int == 66)
  }

  @Test(
    "wrong usage exits with 64",
    arguments: [
      ["--filter", "(a"], ["--role", "wing"], ["--sort", "colour"], ["--threads", "0"], ["--wrong"],
    ])
  func usage(arguments: [String]) throws {
    let result = try runTool("step3-inspect", [Fixtures.path("checkpoints/tiny")] + arguments)
    #expect(result.status == 64)
    #expect(result.output.isEmpty)
    #expect(!result.error.isEmpty)
  }

  @Test(
    "an invalid regular expression is quoted with its fault",
    arguments: [
      ("(a", "missing closing parenthesis, at character 3"),
      ("*a", "does not follow a repeatable item, at character 1"),
      ("a[", "for character class"), ("[a-z&&[^b]]", "operations on sets"),
    ])
  func wrongPattern(pattern: String, message: String) throws {
    for command in ["list", "stats"] {
      let result = try runTool(
        "step3-inspect", [command, Fixtures.path("checkpoints/tiny"), "--filter", pattern])
      #expect(result.status == 64)
      #expect(result.error.contains("--filter: '\(pattern)' is not a regular expression: "))
      #expect(result.error.contains(message), "\(result.error)")
    }
  }

  @Test func helpExitsWith0() throws {
    let result = try runTool("step3-inspect", ["--help"])
    #expect(result.status == 0)
    #expect(result.output.contains("SUBCOMMANDS:"))
    #expect(result.error.isEmpty)
  }

  @Test func aMalformedInputExitsWith65() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path("bad\u{1B}[31m.safetensors")
    try Data([255, 255, 255, 255, 255, 255, 255, 127, 0]).write(to: URL(filePath: path))
    let result = try runTool("step3-inspect", [path])
    #expect(result.status == 65)
    #expect(result.output.isEmpty)
    #expect(!result.error.contains("\u{1B}"), "a file name must not reach the terminal as a command")
    #expect(result.error.contains("\\u{1b}"))
  }

  @Test func aFullOutputDeviceExitsWith74() throws {
    #if os(Linux)
    let process = Process()
    process.executableURL = URL(filePath: "/bin/sh")
    let tool = try toolPath("step3-inspect")
    process.arguments = ["-c", "'\(tool)' '\(Fixtures.path("checkpoints/tiny"))' > /dev/full 2> /dev/null"]
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 74)
    #endif
  }

  @Test func aClosedPipeIsNotAnError() throws {
    let process = Process()
    process.executableURL = URL(filePath: "/bin/bash")
    let tool = try toolPath("step3-inspect")
    let path = Fixtures.path("checkpoints/tiny")
    process.arguments = ["-c", "set -o pipefail; '\(tool)' '\(path)' --json 2>&1 | head -c 1 > /dev/null"]
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
  }
}
