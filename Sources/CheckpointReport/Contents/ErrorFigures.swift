package import Conversion
package import Verification
internal import Checkpoint
internal import Step3Model
internal import TensorFormats

/// The errors of an output's weights relative to its source.
package struct ErrorFigures: Sendable {
  /// The origin of the figures.
  package enum Origin: Sendable {
    /// Both checkpoints were read and compared, value by value.
    case comparison(source: String)
    /// Measured while the output was written, and kept in its manifest.
    case manifest(digest: String)
  }

  /// One weight.
  package struct Weight: Sendable {
    package let name: String
    /// How it is stored, if known.
    package let from: String?
    package let to: String?
    /// The root of the squared error over the squared source.
    package let relativeRMSE: Double
    /// The same for each matrix of a stack, by its index.
    package let matrices: [(matrix: Int, relativeRMSE: Double)]
    /// Whether it is in line; `nil` if nothing was checked.
    package let ok: Bool?
  }

  package let origin: Origin
  /// The weights whose values changed, in file order.
  package let weights: [Weight]
  /// The number of weights compared, or recorded, that did not change.
  package let exact: Int
  /// The findings; `nil` if nothing was checked.
  package let report: TensorReport?
}

extension ErrorFigures {
  /// The figures of a comparison.
  package init(_ report: TensorReport) {
    let changed = report.tensors.filter { $0.relativeRMSE > 0 }
    origin = .comparison(source: report.source)
    exact = report.tensors.count - changed.count
    weights = changed.map { tensor in
      Weight(
        name: tensor.name, from: tensor.from, to: tensor.to, relativeRMSE: tensor.relativeRMSE,
        matrices: (tensor.matrices ?? []).map { ($0.matrix, $0.relativeRMSE) }, ok: tensor.ok)
    }
    self.report = report
  }

  /// The figures recorded by a conversion.
  package init(_ manifest: Manifest) {
    let changed = manifest.tensors.filter { $0.error != nil }
    origin = .manifest(digest: manifest.digest)
    exact = manifest.tensors.count - changed.count
    weights = changed.map { tensor in
      Weight(
        name: WeightName(tensor.name).text, from: nil, to: nil, relativeRMSE: tensor.error?.relativeRMSE ?? 0,
        matrices: [], ok: nil)
    }
    report = nil
  }
}

// MARK: - As grids

extension ErrorFigures {
  /// The error of each kind of weight by layer.
  var byLayer: FigureGrid? {
    FigureGrid(
      "Relative error of each weight, by layer",
      weights.compactMap { weight in
        let description = TensorDescription(name: weight.name)
        guard let layer = description.layer, description.role != .vision else { return nil }
        return (WeightName(weight.name).module, layer, weight.relativeRMSE)
      })
  }

  /// The error of each expert by layer, for every kind of stacked weight.
  var byExpert: [FigureGrid] {
    var stacks: [(module: String, figures: [(expert: Int, layer: Int, value: Double)])] = []
    for weight in weights {
      let description = TensorDescription(name: weight.name)
      guard let layer = description.layer, description.role == .routedExperts else { continue }
      let name = WeightName(weight.name)
      let single = name.expert.map { [($0, weight.relativeRMSE)] } ?? []
      let figures = (single.isEmpty ? weight.matrices : single).map {
        (expert: $0.0, layer: layer, value: $0.1)
      }
      guard !figures.isEmpty else { continue }
      if let place = stacks.firstIndex(where: { $0.module == name.module }) {
        stacks[place].figures += figures
      } else {
        stacks.append((name.module, figures))
      }
    }
    return stacks.compactMap { module, figures in
      FigureGrid(
        "Relative error of \(module), by expert and layer",
        figures.sorted { ($0.expert, $0.layer) < ($1.expert, $1.layer) }.map {
          ("\($0.expert)", $0.layer, $0.value)
        })
    }
  }

  /// Weights of a vision encoder or outside the layers, which are not in the grids.
  var others: [Weight] {
    weights.filter {
      let description = TensorDescription(name: $0.name)
      return description.layer == nil || description.role == .vision
    }
  }
}
