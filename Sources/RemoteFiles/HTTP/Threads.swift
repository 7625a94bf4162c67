internal import Dispatch
internal import Synchronization
internal import TensorFormats

/// Parallel blocking calls.
enum Threads {
  /// The results of `body` for each value, in order; up to `width` calls at a time, on dedicated threads, so that a
  /// call may wait for a server without blocking anything else.
  ///
  /// - Throws: The error of the first value whose call fails. Calls not started by then are skipped.
  static func map<Value: Sendable, Output: Sendable>(
    _ values: [Value], width: Int, _ body: @Sendable @escaping (Value) throws(CheckpointError) -> Output
  ) throws(CheckpointError) -> [Output] {
    let results = Mutex([Result<Output, CheckpointError>?](repeating: nil, count: values.count))
    let next = Atomic(0)
    let failed = Atomic(false)
    let group = DispatchGroup()
    for number in 0..<min(max(1, width), values.count) {
      DispatchQueue(label: "RemoteFiles.\(number)").async(group: group) {
        while !failed.load(ordering: .relaxed) {
          let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
          guard index < values.count else { return }
          let result: Result<Output, CheckpointError>
          do throws(CheckpointError) { result = .success(try body(values[index])) } catch {
            result = .failure(error)
            failed.store(true, ordering: .relaxed)
          }
          results.withLock { $0[index] = result }
        }
      }
    }
    group.wait()
    let all = results.withLock { $0 }
    for case .failure(let error)? in all { throw error }
    return try all.map { (result) throws(CheckpointError) in
      guard let result else { throw CheckpointError(.inputOutput, "was not requested") }
      return try result.get()
    }
  }
}
