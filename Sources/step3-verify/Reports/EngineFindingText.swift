import ServingEngines
import TensorFormats

/// Findings as text: those with the same cause and fix are printed once, however many modules they affect.
struct EngineFindingText {
  /// Findings with the same consequence and fix.
  private struct Group {
    let first: EngineFinding
    /// What is wrong, each with where it was found.
    var problems: [(message: String, places: Places)]
  }

  /// The modules, tensors or files of a finding.
  private struct Places {
    var first: String?
    var count = 0

    mutating func add(_ finding: EngineFinding) {
      guard let name = finding.tensor ?? finding.file else { return }
      first = first ?? name
      count += finding.count
    }

    /// `: model.layers.0.self_attn.wq and 60 more like it`; nothing for the model as a whole.
    var text: String {
      guard let first else { return "" }
      return ": \(first.printable)" + (count > 1 ? " and \(count - 1) more like it" : "")
    }
  }

  private var groups: [Group] = []

  init(_ findings: [EngineFinding]) {
    for finding in findings { add(finding) }
  }

  private mutating func add(_ finding: EngineFinding) {
    let index =
      groups.firstIndex {
        $0.first.severity == finding.severity && $0.first.code == finding.code
          && $0.first.consequence == finding.consequence && $0.first.remedy == finding.remedy
      } ?? groups.endIndex
    if index == groups.endIndex { groups.append(Group(first: finding, problems: [])) }
    let place =
      groups[index].problems.firstIndex { $0.message == finding.message } ?? groups[index].problems.endIndex
    if place == groups[index].problems.endIndex {
      groups[index].problems.append((finding.message, Places()))
    }
    groups[index].problems[place].places.add(finding)
  }

  /// The number of distinct problems of one severity.
  func count(of severity: EngineFinding.Severity) -> Int {
    groups.reduce(0) { $0 + ($1.first.severity == severity ? $1.problems.count : 0) }
  }

  /// A block for each group.
  var text: String { groups.map(Self.text).joined() }

  private static func text(_ group: Group) -> String {
    let severity =
      switch group.first.severity {
      case .error: "ERROR"
      case .silent: "SILENT"
      case .warning: "warning"
      }
    var text = "  \(severity) \(group.first.code.rawValue)"
    if group.problems.count == 1 {
      text += "\(group.problems[0].places.text)\n      \(group.problems[0].message)\n"
    } else {
      text += "\n" + group.problems.map { "      \($0.message)\($0.places.text)\n" }.joined()
    }
    return text + "      -> \(group.first.consequence)\n      fix: \(group.first.remedy)\n"
  }
}
