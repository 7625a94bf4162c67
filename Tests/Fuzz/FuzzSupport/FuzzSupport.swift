internal import CFuzzer

/// Hands the command line to libFuzzer and returns its exit status.
///
/// - Parameter test: Called with one input after another; returns 0. A crash or failed precondition in it counts as a find.
public func runFuzzer(_ test: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt) -> CInt {
  var count = CommandLine.argc
  var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
  return LLVMFuzzerRunDriver(&count, &arguments, test)
}

/// Stops with a message that libFuzzer shows, because a parser accepted unsound input.
public func require(_ condition: Bool, _ message: @autoclosure () -> String) {
  if !condition { fatalError("unsound: \(message())") }
}
