internal import ByteStreams
internal import TensorFormats

/// The names in one directory.
struct DirectoryListing {
  let store: any ByteStore
  let names: [String]

  var path: String { store.path }

  init(_ store: any ByteStore) throws(CheckpointError) {
    self.store = store
    names = try store.names()
  }

  func contains(_ name: String) -> Bool { names.contains(name) }

  func names(endingIn suffix: String) -> [String] {
    names.filter { $0.hasSuffix(suffix) && !$0.hasPrefix(".") }
  }
}
