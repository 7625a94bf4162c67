internal import Checkpoint
internal import Step3Model
internal import TensorFormats

/// Whether feed-forward ranks make up the model: every expert and every element of an intermediate dimension is held by
/// exactly one rank.
struct PartitionCheck {
  let text: Step3Configuration.Text
  let model: ModelDescription

  /// A rank, as planned and as it describes itself.
  struct Rank {
    let name: String
    let expected: PartIdentity
    let hello: PartHello
  }

  /// Checks all ranks together. Nothing is computed before this check.
  ///
  /// - Throws: `.malformed` or `.notFound`, with the parts' names.
  func check(_ ranks: [Rank]) throws(CheckpointError) {
    for rank in ranks { try check(rank) }
    for layer in 0..<text.layerCount {
      for network in FFNNetwork.of(layer: layer, text) {
        var held: [(name: String, share: FFNShare)] = []
        for rank in ranks {
          for share in rank.hello.shares where share.layer == layer && share.network == network {
            held.append((rank.name, share))
          }
        }
        try checkCover(layer, network, held)
      }
    }
  }

  private func check(_ rank: Rank) throws(CheckpointError) {
    let hello = rank.hello
    guard hello.dimensions == ModelDimensions(text) else {
      throw CheckpointError(.malformed, "FFN part \(rank.name) belongs to a model of different dimensions")
    }
    guard hello.identity == rank.expected else {
      throw CheckpointError(
        .malformed,
        "FFN part \(rank.name) claims to be \(hello.identity.standardName.printable), rank "
          + "\(hello.identity.position.rank) of \(hello.identity.position.ranks)")
    }
    guard hello.identity.routesInFFN else { return }
    if let missing = text.moeLayers.first(where: { !hello.routers.contains($0) }) {
      throw CheckpointError(
        .notFound, "FFN part \(rank.name) should choose the experts but does not hold the router",
        tensor: model.published(Step3TensorName(.router, layer: missing)))
    }
  }

  /// Walks every expert's intermediate dimension from 0 to its end; each share must begin where the last one ended.
  private func checkCover(
    _ layer: Int, _ network: FFNNetwork, _ held: [(name: String, share: FFNShare)]
  ) throws(CheckpointError) {
    let (experts, inner) = network.size(text)
    let tensor = model.published(network.names(layer: layer).gate)
    for (name, share) in held {
      guard Self.fits(share.experts, experts), Self.fits(share.inner, inner) else {
        throw CheckpointError(
          .malformed, "FFN part \(name) states a share that the tensor does not have", tensor: tensor)
      }
    }
    let sorted = held.sorted {
      ($0.share.inner[0], $0.share.inner[1]) < ($1.share.inner[0], $1.share.inner[1])
    }
    for expert in 0..<experts {
      let place = network == .routed ? "expert \(expert), " : ""
      var reached = 0
      var last: String?
      for (name, share) in sorted where share.experts[0] <= expert && expert < share.experts[1] {
        if share.inner[0] < reached, let last {
          throw CheckpointError(
            .malformed,
            "\(place)intermediate elements from \(share.inner[0]) to \(min(reached, share.inner[1])) are in both "
              + "\(last) and \(name)", tensor: tensor)
        }
        guard share.inner[0] == reached else { break }
        if share.inner[1] > reached { last = name }
        reached = share.inner[1]
      }
      guard reached == inner else {
        let neighbours = Set(held.map(\.name)).sorted().joined(separator: ", ")
        throw CheckpointError(
          .malformed,
          "\(place)intermediate elements from \(reached) on are in no part (\(neighbours) hold others)",
          tensor: tensor)
      }
    }
  }

  private static func fits(_ range: [Int], _ count: Int) -> Bool {
    range.count == 2 && range[0] >= 0 && range[0] <= range[1] && range[1] <= count
  }
}
