import Signatures
import Testing

/// The bytes that an envelope's signature covers.
@Suite struct DSSETests {
  @Test("the specification's example is encoded")
  func example() {
    let encoded = DSSE.preAuthenticationEncoding(
      type: "http://example.com/HelloWorld", payload: Array("hello world".utf8))
    #expect(
      String(decoding: encoded, as: UTF8.self) == "DSSEv1 29 http://example.com/HelloWorld 11 hello world")
  }

  @Test("lengths count bytes, and the payload is not changed")
  func lengths() {
    let encoded = DSSE.preAuthenticationEncoding(type: "é", payload: [0, 0xFF, 0x20])
    #expect(encoded == Array("DSSEv1 2 é 3 ".utf8) + [0, 0xFF, 0x20])
    #expect(DSSE.preAuthenticationEncoding(type: "", payload: []) == Array("DSSEv1 0  0 ".utf8))
  }
}
