/// The toolkit's version, as `--version` prints it. Part of every plan and manifest: another version may place bytes
/// differently.
public let toolkitVersion = "0.1.0"
