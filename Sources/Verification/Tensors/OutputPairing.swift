internal import Checkpoint
internal import Comparison
internal import JSON
internal import Step3Model
internal import StoredWeights
internal import TensorFormats

/// Which tensors of an output are compared with which of its source, and the findings before reading any values.
struct OutputPairing {
  /// The comparisons to make, in the order of the output's files.
  private(set) var comparisons: [ErrorComparison] = []
  /// The weights that were left out on purpose.
  private(set) var leftOut: [String] = []
  /// Findings before reading any values.
  private(set) var findings: [TensorReport.Finding] = []
  /// Whether the output's codes were calibrated.
  private let isCalibrated: Bool
  /// Whether the output is one part of a partition set.
  let isPart: Bool
  /// The weights of the source.
  let source: ModelWeights
  /// Those of the output, or of each of its parts.
  let holders: [WeightPairing.Holder]
  /// Why tensors are compared as stored: what in one of the checkpoints is not supported. `nil` if everything is.
  let unread: String?

  /// Finds the counterpart of everything that `output` holds.
  ///
  /// Every part of a partition set is treated separately, so that replicated tensors are compared in each.
  ///
  /// - Parameters:
  ///   - excluded: The tensors of the source, by their names on disk, that are left out on purpose.
  ///   - isCalibrated: Whether the output's codes were calibrated.
  ///   - isWanted: Which names are selected.
  /// - Throws: As ``StoredWeights/ModelWeights/init(_:)``.
  init(
    _ output: Checkpoint, _ source: Checkpoint, excluded: Set<String> = [], isCalibrated: Bool = false,
    isWanted: (String) throws(CheckpointError) -> Bool
  ) throws(CheckpointError) {
    self.isCalibrated = isCalibrated
    isPart = output.parts.isEmpty && Self.isMarkedAsPart(output)
    (self.source, holders, unread) = try Self.open(output, source)
    let pairing = try WeightPairing(holders, self.source, with: .weight, isWanted: isWanted)
    var held: [String: Set<TensorBox>] = [:]
    for match in pairing.matches {
      guard let weight = match.a else { continue }
      held[match.name, default: []].formUnion(weight.pieces.map(\.box))
      add(match)
    }
    let wanted = Set(pairing.matches.map(\.name))
    for name in self.source.names where wanted.contains(name) {
      if let weight = self.source[name] { checkPresence(of: weight, in: held[name], excluded) }
    }
  }

  /// Reports if the output lacks a source weight, or a part of one, without a reason.
  private mutating func checkPresence(
    of weight: ModelWeights.Weight, in boxes: Set<TensorBox>?, _ excluded: Set<String>
  ) {
    guard let boxes else {
      if weight.isAmong(excluded, in: source.checkpoint) {
        leftOut.append(weight.name)
      } else if !isPart, !isObsolete(weight.name), !isComputed(weight.name) {
        report(.missing, weight.name, nil, "the source has it, but the output does not")
      }
      return
    }
    let (held, all) = (WeightPairing.elementCount(boxes), weight.shape.elementCount)
    if !isPart, held < all, boxes.allSatisfy({ $0.shape == weight.shape }) {
      report(.incomplete, weight.name, nil, "\(all - held) of its \(all) elements are in none of the parts")
    }
  }

  /// Adds one part's share of a weight.
  private mutating func add(_ match: WeightPairing.Match) {
    let (name, part) = (match.name, match.part)
    guard let weight = match.a else { return }
    guard let counterpart = match.b else {
      // Compared with the configuration when the file was opened.
      guard !isComputed(name) else { return }
      return report(.unexpected, name, part, "the output has it, but the source does not")
    }
    guard match.hasSameShape else {
      return report(
        .shape, name, part, "the shape is \(weight.shape), in the source \(counterpart.shape)")
    }
    for _ in match.unmatched {
      report(
        .sourceIncomplete, name, part, "the source does not hold all elements of this piece in one place")
    }
    for pair in match.pairs {
      // Unsupported codes have no values.
      let comparison = ErrorComparison(pair, isCalibrated: isCalibrated) { [unread] storage in
        unread == nil || storage.scheme != nil || !DeclaredReading.canBeCodes(storage.elementType)
      }
      if let comparison {
        comparisons.append(comparison)
      } else {
        // The source's first piece represents all of them.
        let its = counterpart.pieces.first.map { StoredPrecision($0.stored).name } ?? "?"
        report(
          .notComparable, name, part,
          "values of \(StoredPrecision(pair.a.stored).name) and \(its) cannot be compared")
      }
    }
  }

  /// Whether a tensor is computed from the configuration in one format and absent in the other.
  private func isComputed(_ name: String) -> Bool {
    let models = holders.compactMap(\.weights.model) + [source.model].compactMap(\.self)
    return models.contains {
      $0[.rotaryFactors] != nil && $0.tensor(published: name)?.module == .rotaryFactors
    }
  }

  /// Whether a tensor scales activations for codes that the output no longer has: `input_scale` beside a weight that
  /// was quantised and is now stored differently.
  private func isObsolete(_ name: String) -> Bool {
    guard let dot = name.lastIndex(of: "."), name[dot...].hasPrefix(".input_"),
      let original = source["\(name[..<dot]).weight"]?.pieces.first?.stored,
      original.scheme != nil || source.checkpoint.files[original.codes.file].isDerived
    else { return false }
    return holders.allSatisfy { holder in
      holder.weights["\(name[..<dot]).weight"]?.pieces.first?.stored.scheme != original.scheme
        || original.scheme == nil
    }
  }

  /// Both sides as weights. If something in either is not supported, every tensor of both is taken as stored: a copy
  /// can be compared with its original without decoding.
  private static func open(
    _ output: Checkpoint, _ source: Checkpoint
  ) throws(CheckpointError) -> (source: ModelWeights, holders: [WeightPairing.Holder], unread: String?) {
    func open(_ unread: ModelWeights.Unread) throws(CheckpointError) -> (ModelWeights, [WeightPairing.Holder])
    {
      var holders: [WeightPairing.Holder] = []
      if output.parts.isEmpty {
        holders = [WeightPairing.Holder(try ModelWeights(output, unread: unread))]
      } else {
        for part in output.parts {
          holders.append(
            WeightPairing.Holder(part: part.name, try ModelWeights(part.checkpoint, unread: unread)))
        }
      }
      return (try ModelWeights(source, unread: unread), holders)
    }
    do throws(CheckpointError) {
      let (source, holders) = try open(.refused)
      return (source, holders, nil)
    } catch {
      guard error.code == .unsupported, output.format == .safetensors, source.format == .safetensors else {
        throw error
      }
      let (source, holders) = try open(.asStored)
      return (source, holders, error.description)
    }
  }

  private mutating func report(
    _ kind: TensorReport.Finding.Kind, _ tensor: String, _ part: String?, _ message: String
  ) {
    findings.append(TensorReport.Finding(kind: kind, tensor: tensor, part: part, message: message))
  }

  /// Whether `config.json` says that this is one part of a model.
  private static func isMarkedAsPart(_ checkpoint: Checkpoint) -> Bool {
    checkpoint.configurationDocument?.isPart == true
  }
}

extension ModelWeights.Weight {
  /// Whether its tensors are among those names.
  fileprivate func isAmong(_ names: Set<String>, in checkpoint: Checkpoint) -> Bool {
    guard !names.isEmpty else { return false }
    return pieces.allSatisfy { piece in
      let codes = piece.stored.codes
      let origins =
        checkpoint.files[codes.file].derivations.first { $0.name == codes.name }?.origins
        ?? [checkpoint.namesOnDisk[codes.name] ?? codes.name]
      return origins.contains(where: names.contains)
    }
  }
}
