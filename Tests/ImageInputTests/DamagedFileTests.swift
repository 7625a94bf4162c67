import ByteStreams
import CheckpointTesting
import ImageInput
import TensorFormats
import Testing

/// Truncated, damaged or crafted files give an error or a picture, and nothing worse.
@Suite struct DamagedFileTests {
  private func bytes(_ name: String) throws -> [UInt8] {
    let file = try InputFile(Fixtures.path("images/\(name)"))
    return try file.readBytes(0..<file.byteCount)
  }

  private func failure(_ bytes: [UInt8]) -> CheckpointError? {
    do {
      _ = try ImageFile.decode(bytes)
      return nil
    } catch {
      return error
    }
  }

  @Test("a PNG cut off anywhere is refused")
  func cutPNG() throws {
    for name in ["rgb.png", "interlaced.png", "palette.png", "gray16.png"] {
      let whole = try bytes(name)
      for count in 0..<whole.count {
        let error = failure(Array(whole[..<count]))
        #expect(error != nil, "\(name) passes with \(count) of \(whole.count) bytes")
        if count >= 8 {
          #expect(error?.code == .truncated, "\(name), \(count) bytes: \(error?.message ?? "")")
        }
      }
    }
  }

  @Test("the caller can refuse a picture by its header, before it is decoded") func judgement() throws {
    for name in ["rgb.png", "progressive.jpg", "cmyk.jpg"] {
      // Truncated after the header: decoding would fail.
      var whole = try bytes(name)
      let image = try ImageFile.decode(whole)
      whole.removeLast(whole.count / 3)
      var seen: ImageHeader?
      let refusal = CheckpointError(.unsupported, "too large")
      #expect(throws: refusal) {
        try ImageFile.decode(whole) { (header) throws(CheckpointError) in
          seen = header
          throw refusal
        }
      }
      #expect(seen?.width == image.width && seen?.height == image.height)
      #expect((seen?.decodingBytes ?? 0) >= 3 * image.width * image.height, "\(name)")
    }
  }

  @Test("a JPEG with more scans than any encoder writes is refused") func scans() throws {
    let whole = try bytes("progressive.jpg")
    // The last scan repeated without data: each costs the decoder a pass over the whole picture.
    let scan: [UInt8] = [0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0]
    let spoilt = whole.dropLast(2) + Array(repeating: scan, count: 65).joined() + whole.suffix(2)
    let error = failure(Array(spoilt))
    #expect(error?.code == .unsupported && error?.message.contains("scans") == true)
    #expect(failure(whole) == nil)
  }

  @Test("a picture whose crops would exceed memory is refused from its size alone") func crops() throws {
    let processor = try Step3ImageProcessor()
    func check(_ width: Int, _ height: Int, memory: Int) throws {
      let header = ImageHeader(width: width, height: height, decodingBytes: 8 * width * height)
      try processor.check(header, memory: memory)
    }
    // 756 crops of a strip that is scaled to four pixels in height: two gigabytes of samples.
    let error = #expect(throws: CheckpointError.self) { try check(22568, 32, memory: 2 << 30) }
    #expect(error?.code == .unsupported && error?.message.contains("756 crops") == true)
    #expect(throws: CheckpointError.self) { try check(32, 22568, memory: 2 << 30) }
    #expect(throws: Never.self) { try check(4000, 3000, memory: 1 << 30) }
    #expect(throws: CheckpointError.self) { try check(4000, 3000, memory: 64 << 20) }
    #expect(throws: Never.self) { try check(640, 480, memory: 64 << 20) }
  }

  @Test("a JPEG cut off anywhere is refused")
  func cutJPEG() throws {
    for name in ["baseline-420.jpg", "progressive.jpg", "cmyk.jpg"] {
      let whole = try bytes(name)
      for count in 0..<whole.count {
        let error = failure(Array(whole[..<count]))
        #expect(error != nil, "\(name) passes with \(count) of \(whole.count) bytes")
        if count >= 3 {
          #expect(error?.code == .truncated, "\(name), \(count) bytes: \(error?.message ?? "")")
        }
      }
    }
  }

  @Test("a changed bit in a PNG is found by its checksum")
  func checksums() throws {
    let whole = try bytes("gray.png")
    for index in 8..<whole.count {
      var damaged = whole
      damaged[index] ^= 0x10
      // A damaged name may turn a chunk into an ancillary one, but its checksum is still compared.
      #expect(failure(damaged) != nil, "byte \(index) may be changed")
    }
  }

  @Test("a file that is not a picture is identified")
  func strangers() throws {
    #expect(failure([])?.code == .truncated)
    #expect(failure(Array("GIF89a".utf8))?.code == .unsupported)
    #expect(failure([0xFF, 0xD8])?.code == .unsupported)
    #expect(failure([0xFF, 0xD8, 0xFF, 0xD9])?.code == .malformed)
    #expect(failure([UInt8](repeating: 0xFF, count: 5000))?.code == .unsupported)
    let missing = #expect(throws: CheckpointError.self) { try ImageFile.read("/nowhere/picture.png") }
    #expect(missing?.code == .notFound)
    #expect(missing?.path == "/nowhere/picture.png")
    let folder = #expect(throws: CheckpointError.self) { try ImageFile.read(Fixtures.path("images")) }
    #expect(folder?.code == .notFound)
  }

  @Test("false sizes in a header are refused without allocating for them")
  func claims() throws {
    var png = try bytes("rgb.png")
    for (width, height, code) in [
      (0, 23, CheckpointError.Code.malformed), (37, 0, .malformed), (9000, 9000, .truncated),
      (0x7FFF_FFFF, 0x7FFF_FFFF, .truncated), (0xFFFF_FFFF, 0xFFFF_FFFF, .truncated),
      (0xFFFF_FFFF, 0, .malformed),
    ] {
      for shift in 0..<4 {
        png[16 + shift] = UInt8(truncatingIfNeeded: width >> (24 - 8 * shift))
        png[20 + shift] = UInt8(truncatingIfNeeded: height >> (24 - 8 * shift))
      }
      #expect(failure(png)?.code == code, "\(width) x \(height)")
    }
    var jpeg = try bytes("baseline-420.jpg")
    let frame = try #require((0..<(jpeg.count - 1)).first { jpeg[$0] == 0xFF && jpeg[$0 + 1] == 0xC0 })
    for (size, code) in [(0, CheckpointError.Code.malformed), (65535, .truncated)] {
      for place in [5, 7] {
        jpeg[frame + place] = UInt8(truncatingIfNeeded: size >> 8)
        jpeg[frame + place + 1] = UInt8(truncatingIfNeeded: size)
      }
      #expect(failure(jpeg)?.code == code, "\(size) x \(size)")
    }
    jpeg[frame + 4] = 12
    #expect(failure(jpeg)?.code == .unsupported)
  }

  @Test("random damage gives an error or a picture")
  func mutations() throws {
    var generator = SeededGenerator(seed: 7)
    let originals = try DecodingTests.names.map(bytes)
    var (errors, pictures) = (0, 0)
    for round in 0..<6000 {
      var damaged = originals[round % originals.count]
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let place = Int.random(in: 0..<damaged.count, using: &generator)
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: damaged[place] = UInt8.random(in: 0...255, using: &generator)
        case 1: damaged[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 2:
          damaged.removeSubrange(
            place..<min(damaged.count, place + Int.random(in: 1...40, using: &generator)))
        default: damaged.insert(contentsOf: damaged[(place / 2)..<place].prefix(60), at: place)
        }
        if damaged.isEmpty { damaged = [0] }
      }
      if failure(damaged) == nil { pictures += 1 } else { errors += 1 }
    }
    // Both occur: JPEG has no checksums.
    #expect(errors > 1000)
    #expect(pictures > 100)
  }
}
