import Foundation
import Testing

/// The result of running a tool.
struct ToolResult {
  let status: Int32
  let output: String
  let error: String

  /// The JSON document on standard output.
  func json() throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])
  }
}

/// Runs one of the built tools, which lie beside the test bundle.
func runTool(_ name: String, _ arguments: [String], environment: [String: String] = [:]) throws -> ToolResult
{
  let process = Process()
  process.executableURL = try buildDirectory().appending(path: name)
  process.arguments = arguments
  process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
  let output = Pipe()
  let error = Pipe()
  process.standardOutput = output
  process.standardError = error
  try process.run()
  // Standard error stays small in every test, so reading the pipes one after the other cannot block.
  let outputData = output.fileHandleForReading.readDataToEndOfFile()
  let errorData = error.fileHandleForReading.readDataToEndOfFile()
  process.waitUntilExit()
  return ToolResult(
    status: process.terminationStatus, output: String(decoding: outputData, as: UTF8.self),
    error: String(decoding: errorData, as: UTF8.self))
}

/// The directory with the products of the build that runs this test.
func buildDirectory() throws -> URL {
  #if os(macOS)
  let bundle = try #require(Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") })
  return bundle.bundleURL.deletingLastPathComponent()
  #else
  return try #require(Bundle.main.executableURL).deletingLastPathComponent()
  #endif
}

/// The path of one of the built tools.
func toolPath(_ name: String) throws -> String { try buildDirectory().appending(path: name).path }
