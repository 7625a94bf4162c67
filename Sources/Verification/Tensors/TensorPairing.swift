internal import Checkpoint
internal import JSON
internal import ModelWeights
internal import TensorFormats

/// Which pieces of the output belong to which tensors of the source.
struct TensorPairing {
  /// The pairs, in the order of the output's files.
  private(set) var pairs: [TensorPair] = []
  /// The weights that were left out on purpose.
  private(set) var leftOut: [String] = []
  /// What is wrong before any value was read.
  private(set) var findings: [TensorReport.Finding] = []
  /// Whether the output is one part of a partition set.
  let isPart: Bool
  /// The weights of the source.
  let source: ModelWeights
  /// Those of the output, or of each of its parts.
  let holders: [Holder]
  /// Why tensors are compared as they are stored: what in one of the checkpoints is not read. `nil` if everything is.
  let unread: String?

  /// The output, or a part of it.
  struct Holder {
    let part: String?
    let weights: ModelWeights
  }

  /// Finds the counterpart of everything that `output` holds.
  ///
  /// Every part of a partition set is looked at by itself, so that what several parts hold is compared in each.
  ///
  /// - Parameters:
  ///   - excluded: The tensors of the source, by their names on disk, that are left out on purpose.
  ///   - isWanted: Which names count.
  /// - Throws: As ``ModelWeights/ModelWeights/init(_:)``.
  init(
    _ output: Checkpoint, _ source: Checkpoint, excluded: Set<String> = [],
    isWanted: (String) throws(CheckpointError) -> Bool
  ) throws(CheckpointError) {
    isPart = output.parts.isEmpty && Self.isMarkedAsPart(output)
    let opened = try Self.open(output, source)
    (self.source, holders, unread) = opened
    let source = opened.source
    var found: [String: Set<TensorBox>] = [:]
    for holder in holders {
      for name in holder.weights.names where try isWanted(name) {
        guard let weight = holder.weights[name] else { continue }
        found[name, default: []].formUnion(weight.pieces.map(\.box))
        add(name, holder.part, weight, in: holder.weights, source)
      }
    }
    for name in source.names where try isWanted(name) {
      guard let weight = source[name] else { continue }
      guard let boxes = found[name] else {
        if weight.isAmong(excluded, in: source.checkpoint) {
          leftOut.append(name)
        } else if !isPart, !isObsolete(name) {
          report(.missing, name, nil, "the source has it, the output has not")
        }
        continue
      }
      let held = boxes.reduce(0) { $0 + $1.elementCount }
      if !isPart, held < weight.shape.elementCount, boxes.allSatisfy({ $0.shape == weight.shape }) {
        report(
          .incomplete, name, nil,
          "\(weight.shape.elementCount - held) of its \(weight.shape.elementCount) elements are in none of the parts"
        )
      }
    }
  }

  /// Whether a tensor scales what is multiplied with codes that the output does not have: `input_scale` beside a weight
  /// that was quantised and is stored otherwise now.
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

  /// Both sides, as weights. Where something in either is not read, every tensor of both is taken as it is stored: a copy
  /// can be compared with what it is a copy of without being understood.
  private static func open(
    _ output: Checkpoint, _ source: Checkpoint
  ) throws(CheckpointError) -> (source: ModelWeights, holders: [Holder], unread: String?) {
    func open(_ unread: ModelWeights.Unread) throws(CheckpointError) -> (ModelWeights, [Holder]) {
      var holders: [Holder] = []
      if output.parts.isEmpty {
        holders = [Holder(part: nil, weights: try ModelWeights(output, unread: unread))]
      } else {
        for part in output.parts {
          holders.append(Holder(part: part.name, weights: try ModelWeights(part.checkpoint, unread: unread)))
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

  private mutating func add(
    _ name: String, _ part: String?, _ weight: ModelWeights.Weight, in candidate: ModelWeights,
    _ source: ModelWeights
  ) {
    guard let counterpart = source[name] else {
      return report(.unexpected, name, part, "the output has it, the source has not")
    }
    guard counterpart.shape == weight.shape else {
      return report(
        .shape, name, part, "the shape is \(weight.shape), in the source \(counterpart.shape)")
    }
    for piece in weight.pieces {
      var sourcePiece: ModelWeights.Piece?
      if !counterpart.isComplete {
        sourcePiece = counterpart.pieces.first { $0.box.intersection(piece.box) == piece.box }
        guard sourcePiece != nil else {
          report(
            .sourceIncomplete, name, part, "the source does not hold all elements of this piece in one place")
          continue
        }
      }
      guard let method = method(piece, sourcePiece, counterpart) else {
        report(
          .notComparable, name, part,
          "values of \(TensorStorage(piece.stored).name) and "
            + "\(counterpart.pieces.first.map { TensorStorage($0.stored).name } ?? "?") cannot be compared")
        continue
      }
      pairs.append(
        TensorPair(
          name: name, part: part, candidate: candidate, candidateWeight: weight, piece: piece, source: source,
          sourceWeight: counterpart, sourcePiece: sourcePiece, method: method))
    }
  }

  private func method(
    _ piece: ModelWeights.Piece, _ sourcePiece: ModelWeights.Piece?, _ source: ModelWeights.Weight
  ) -> TensorPair.Method? {
    let pieces = sourcePiece.map { [$0] } ?? source.pieces
    let mine = TensorStorage(piece.stored)
    let others = pieces.map { TensorStorage($0.stored) }
    // Codes of something that is not read have no values.
    let mayBeCodes =
      unread != nil
      && ([mine] + others).contains { $0.scheme == nil && DeclaredReading.canBeCodes($0.elementType) }
    if !mayBeCodes, mine.isReal, others.allSatisfy(\.isReal), let first = others.first {
      return .values(ErrorBound(mine, of: first))
    }
    // Without a decoder only whole tensors of one type can be laid beside each other.
    guard others == [mine], pieces[0].box == piece.box,
      pieces[0].stored.codes.byteRange.count == piece.stored.codes.byteRange.count
    else { return nil }
    return .bytes
  }

  /// Whether `config.json` says that this is one part of a model.
  private static func isMarkedAsPart(_ checkpoint: Checkpoint) -> Bool {
    checkpoint.configurationMembers?["step3_partition"]?.members != nil
  }
}

extension ModelWeights.Weight {
  /// Whether the tensors that it is made of are among those names.
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
