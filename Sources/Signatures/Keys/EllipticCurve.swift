/// The supported elliptic curves, each with its digest: SHA-256, SHA-384, SHA-512.
public enum EllipticCurve: String, Codable, Hashable, Sendable, CaseIterable {
  case p256 = "P-256"
  case p384 = "P-384"
  case p521 = "P-521"

  /// For messages.
  static var list: String { allCases.map(\.rawValue).joined(separator: ", ") }
}

extension EllipticCurve {
  /// The DER-encoded object identifier (RFC 5480): 1.2.840.10045.3.1.7, 1.3.132.0.34, 1.3.132.0.35.
  private var identifier: [UInt8] {
    switch self {
    case .p256: [0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07]
    case .p384: [0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22]
    case .p521: [0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x23]
    }
  }

  /// The bytes of a private key.
  private var scalarByteCount: Int {
    switch self {
    case .p256: 32
    case .p384: 48
    case .p521: 66
    }
  }

  /// Whether a private key that was read for this curve names this curve. swift-crypto accepts any number of the right
  /// length: a secp256k1 key would sign as a different key.
  ///
  /// - Parameter key: DER in the form of PKCS #8 or SEC 1.
  func isNamed(byPrivateKey key: [UInt8], isPKCS8: Bool) -> Bool {
    // A sequence, its length in one to three bytes.
    guard key.count > 4, key[0] == 0x30 else { return false }
    let content = key.dropFirst(key[1] < 0x80 ? 2 : 2 + Int(key[1] & 0x7F))
    if isPKCS8 {
      // The version, 0, and the algorithm: id-ecPublicKey on the curve.
      let algorithm: [UInt8] = [0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01] + identifier
      return content.starts(with: [0x02, 0x01, 0x00, 0x30, UInt8(algorithm.count)] + algorithm)
    }
    // The version, 1, the number, and the curve under the tag 0.
    return content.starts(with: [0x02, 0x01, 0x01, 0x04, UInt8(scalarByteCount)])
      && content.dropFirst(5 + scalarByteCount).starts(with: [0xA0, UInt8(identifier.count)] + identifier)
  }
}
