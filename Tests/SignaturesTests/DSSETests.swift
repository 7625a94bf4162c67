import Signatures
import Testing

/// What an envelope's signature is of.
@Suite struct DSSETests {
  @Test("the example of the specification")
  func example() {
    let encoded = DSSE.preAuthenticationEncoding(
      type: "http://example.com/HelloWorld", payload: Array("hello world".utf8))
    #expect(
      String(decoding: encoded, as: UTF8.self) == "DSSEv1 29 http://example.com/HelloWorld 11 hello world")
  }

  @Test("lengths are those of bytes, and a payload is taken as it is")
  func lengths() {
    let encoded = DSSE.preAuthenticationEncoding(type: "é", payload: [0, 0xFF, 0x20])
    #expect(encoded == Array("DSSEv1 2 é 3 ".utf8) + [0, 0xFF, 0x20])
    #expect(DSSE.preAuthenticationEncoding(type: "", payload: []) == Array("DSSEv1 0  0 ".utf8))
  }
}
