/// What a reader of a plan should know before its conversion starts.
extension ShardPlan {
  /// A tensor that is in several parts on purpose.
  public struct Replication: Codable, Hashable, Sendable {
    /// The source tensor's name.
    public var tensor: String
    /// The directories it is in.
    public var parts: [String]
    /// Why.
    public var reason: String
  }

  /// A tensor that is not stored as the recipe's rule asked.
  public struct Fallback: Codable, Hashable, Sendable {
    /// The source tensor's name.
    public var tensor: String
    /// The format the rule asked for.
    public var wanted: String
    /// The format it gets.
    public var stored: String
    /// Why.
    public var reason: String
    /// The number of its weights, counting every copy.
    public var parameters: Int
    /// Whether the recipe itself provides for the replacement, so that nobody is surprised.
    public var isForeseen: Bool
  }

  /// A source tensor that was left out on purpose.
  public struct Exclusion: Codable, Hashable, Sendable {
    /// The source tensor's name.
    public var tensor: String
    /// The pattern that it matched.
    public var pattern: String
  }

  /// Something that the output lacks.
  public struct Omission: Codable, Hashable, Sendable {
    /// What is missing: a file's name, or what it would have contained.
    public var what: String
    /// Why.
    public var reason: String

    /// Describes what is missing.
    public init(what: String, reason: String) {
      self.what = what
      self.reason = reason
    }
  }

  /// A member of the configuration that had to be corrected.
  public struct Amendment: Codable, Hashable, Sendable {
    /// Which: `text_config.moe_layers_enum`.
    public var key: String
    /// Why.
    public var reason: String
  }

  /// A source tensor whose content goes into another output tensor.
  public struct Absorption: Codable, Hashable, Sendable {
    /// The source tensor's name.
    public var tensor: String
    /// Why it is not a tensor of its own.
    public var reason: String
  }

  /// The importance matrix that was given, and what it covers.
  public struct Importance: Codable, Hashable, Sendable {
    /// The file's name.
    public var file: String
    /// Its size.
    public var bytes: Int
    /// XXH3-128 of the file.
    public var xxh3: String
    /// How many output tensors are encoded with weights from it.
    public var weighted: Int
    /// The source tensors whose formats could have used weights, but which it does not cover.
    public var unweighted: [String]
  }
}
