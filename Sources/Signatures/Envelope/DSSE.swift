/// The envelope that signatures are made of (DSSE 1.0, Dead Simple Signing Envelope).
package enum DSSE {
  /// The bytes that are signed: payload and type, each with its length, so that neither can be mistaken for part of the
  /// other.
  ///
  /// `DSSEv1`, the length of the type, the type, the length of the payload, the payload, separated by spaces.
  package static func preAuthenticationEncoding(type: String, payload: [UInt8]) -> [UInt8] {
    Array("DSSEv1 \(type.utf8.count) \(type) \(payload.count) ".utf8) + payload
  }
}
