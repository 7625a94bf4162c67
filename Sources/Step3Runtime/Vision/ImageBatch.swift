/// Pictures that go through the vision tower together, so that each weight is read once for all of them. Their sizes
/// may differ.
struct ImageBatch {
  /// One picture.
  struct Image {
    /// The stack with its samples, and its index there.
    let source: Int
    let index: Int
    /// Patches along each side.
    let grid: Int
    /// Its rows among those of all pictures: the class rows, then the patches, line by line.
    let rows: Range<Int>

    /// The rows of the patches.
    var patches: Range<Int> { rows.lowerBound + ImageBatch.classRows..<rows.upperBound }
  }

  /// The number of copies of the class token that go through the layers.
  static let classRows = 4

  let sources: [SquareImages]
  let images: [Image]

  /// Rows of all pictures.
  var rowCount: Int { images.last?.rows.upperBound ?? 0 }

  /// The grids of all pictures.
  var grids: [Int] { images.map(\.grid) }

  /// Arranges pictures in the order of a prompt: the crops of each, then the whole of it.
  init(_ pixels: PixelValues, patchSize: Int) {
    sources = [pixels.images] + (pixels.crops.map { [$0] } ?? [])
    var images: [Image] = []
    var nextCrop = 0
    for (index, count) in pixels.cropCounts.enumerated() {
      for crop in nextCrop..<nextCrop + count { Self.add(1, crop, sources, patchSize, &images) }
      nextCrop += count
      Self.add(0, index, sources, patchSize, &images)
    }
    self.images = images
  }

  private static func add(
    _ source: Int, _ index: Int, _ sources: [SquareImages], _ patchSize: Int, _ images: inout [Image]
  ) {
    let grid = sources[source].side / patchSize
    let first = images.last?.rows.upperBound ?? 0
    images.append(
      Image(source: source, index: index, grid: grid, rows: first..<first + classRows + grid * grid))
  }
}
