import ByteStreams
import TensorFormats
import Testing

@Suite struct DigestTests {
  // sha256sum and xxhsum -H2 of the three bytes "abc".
  @Test func knownValues() {
    var sha = SHA256Digester()
    var xxh = XXH3Digester()
    let bytes = Array("abc".utf8)
    sha.update(bytes.span.bytes)
    xxh.update(bytes.span.bytes)
    #expect("\(sha.finalize())" == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect("\(xxh.finalize())" == "06b05ab6733a618578af5f94892f3950")
    #expect(Digest(hexadecimal: "0aFF")?.bytes == [10, 255])
    #expect(Digest(hexadecimal: "0aF") == nil)
    #expect(Digest(hexadecimal: "zz") == nil)
  }
}
