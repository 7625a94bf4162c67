internal import Step3Model
internal import TensorFormats

/// A module whose rows are several published weights: engines fuse them, and some schemes store them so.
struct FusedModule {
  /// One of the weights.
  struct Member {
    let name: String
    let shape: TensorShape
    /// Its first row in the fused matrix.
    let firstRow: Int
  }

  let members: [Member]

  /// - Parameter stem: The module's published name.
  /// - Returns: `nil` if the name is not a fused module's, or the number of rows differs from the configuration's.
  init?(_ stem: String, _ shape: TensorShape, _ configuration: Step3Configuration?) {
    guard let configuration, shape.rank == 2 else { return nil }
    let model = configuration.family.model
    guard let (modules, layer) = model.members(ofFused: stem) else { return nil }
    var members: [Member] = []
    var firstRow = 0
    for module in modules {
      guard let rows = module.shape(configuration, layer: layer)?.first else { return nil }
      members.append(
        Member(
          name: model.published(Step3TensorName(module.module, layer: layer)),
          shape: TensorShape([rows, shape.columns]), firstRow: firstRow))
      firstRow += rows
    }
    guard firstRow == shape.dimensions[0] else { return nil }
    self.members = members
  }
}
