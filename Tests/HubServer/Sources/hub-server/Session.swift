import Synchronization

/// One client's view of the server: a script of faults, a log of requests, and the speed of connections. Sessions are told
/// apart by the first two components of the path, `/s/NAME/...`, so that many tests share a server. The name sets the
/// session up: `/s/17~faults=drop:1000,ok,stall:5~latency=20/...`. `/s/NAME/_log` lists the requests.
final class Session: Sendable {
  struct State {
    /// The faults of the next responses with a file's body, one each; later responses have none.
    var script: [Fault] = []
    /// The faults of the next responses of the hub itself: `HEAD` and lists.
    var hubScript: [Fault] = []
    /// Milliseconds before a response begins.
    var latency = 0
    /// Bytes per second and connection; 0 for no limit.
    var rate = 0
    /// How many requests a signature is valid for; 0 for any number.
    var signatureUses = 0
    /// How often each signature was used.
    var uses: [Int: Int] = [:]
    var signatures = 0
    /// The token that requests must carry.
    var token: String?
    /// Whether the hub's lists state sizes.
    var hasTree = true
    /// Whether the static side sends lengths and supports HEAD.
    var hasHead = true
    /// The number of entries per page of a list.
    var page = 1000
    var log: [String] = []
  }

  let state = Mutex(State())

  func record(_ line: String) { state.withLock { $0.log.append(line) } }

  func nextFault() -> Fault { state.withLock { $0.script.isEmpty ? .none : $0.script.removeFirst() } }

  func nextHubFault() -> Fault {
    state.withLock { $0.hubScript.isEmpty ? .none : $0.hubScript.removeFirst() }
  }

  /// Issues a signature.
  func sign() -> Int {
    state.withLock { state in
      state.signatures += 1
      return state.signatures
    }
  }

  /// Whether a signature is still valid; counts its use.
  func accepts(_ signature: Int) -> Bool {
    state.withLock { state in
      guard signature > 0, signature <= state.signatures else { return false }
      state.uses[signature, default: 0] += 1
      return state.signatureUses == 0 || state.uses[signature, default: 0] <= state.signatureUses
    }
  }

  init(_ name: String) {
    for setting in name.split(separator: "~").dropFirst() {
      let sides = setting.split(separator: "=", maxSplits: 1)
      guard sides.count == 2 else { continue }
      let (value, number) = (sides[1], Int(sides[1]) ?? 0)
      func script() -> [Fault] { value.split(separator: ",").map { Fault($0) ?? Fault("status:418")! } }
      state.withLock { state in
        switch sides[0] {
        case "faults": state.script = script()
        case "hub": state.hubScript = script()
        case "latency": state.latency = number
        case "rate": state.rate = number
        case "uses": state.signatureUses = number
        case "token": state.token = String(value)
        case "tree": state.hasTree = number != 0
        case "head": state.hasHead = number != 0
        case "page": state.page = number
        // An unknown setting must not be ignored.
        default: state.script = Array(repeating: Fault("status:418")!, count: 1000)
        }
      }
    }
  }
}

/// All sessions, by name.
final class Sessions: Sendable {
  private let sessions = Mutex<[String: Session]>([:])

  subscript(name: String) -> Session {
    sessions.withLock { all in
      if let session = all[name] { return session }
      let session = Session(name)
      all[name] = session
      return session
    }
  }
}
