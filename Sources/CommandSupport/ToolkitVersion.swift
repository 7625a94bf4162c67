/// The version of the toolkit, as its tools print it.
public let toolkitVersion = "0.1.0"
