/// The toolkit's version, part of every plan: another version may place bytes differently.
public let toolVersion = "0.1.0"
