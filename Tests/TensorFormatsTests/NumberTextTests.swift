import TensorFormats
import Testing

@Suite("numbers as text") struct NumberTextTests {
  @Test func decimalsAreRounded() {
    #expect(NumberText.decimals(0, 0) == "0" && NumberText.decimals(0, 2) == "0.00")
    #expect(NumberText.decimals(0.0713, 4) == "0.0713" && NumberText.decimals(12, 1) == "12.0")
    #expect(NumberText.decimals(0.05, 1) == "0.1" && NumberText.decimals(-1.25, 1) == "-1.3")
    #expect(NumberText.decimals(999.96, 1) == "1000.0" && NumberText.decimals(9.5, 0) == "10")
    // The number rounds to zero and loses its sign.
    #expect(NumberText.decimals(-0.004, 2) == "0.00" && NumberText.decimals(-0.0, 1) == "0.0")
    #expect(NumberText.decimals(1.5e300, 3) == "1.5e+300" && NumberText.decimals(.nan, 1) == "nan")
    #expect(NumberText.decimals(-.infinity, 1) == "-inf")
  }

  @Test func trailingZerosAreTrimmed() {
    #expect(NumberText.trimmed(0.0700, 4) == "0.07" && NumberText.trimmed(100, 2) == "100")
    #expect(NumberText.trimmed(100, 0) == "100" && NumberText.trimmed(0, 3) == "0")
    #expect(NumberText.trimmed(1e300, 3) == "1e+300" && NumberText.trimmed(.infinity, 2) == "inf")
  }

  @Test func significantDigitsAreKept() {
    #expect(NumberText.significant(0.002134) == "0.00213" && NumberText.significant(0.0999996) == "0.1")
    #expect(NumberText.significant(-0.5) == "-0.5" && NumberText.significant(0.000_001_234) == "0.00000123")
    // Below a millionth the significant digits would be lost among zeros.
    #expect(NumberText.significant(1.5e-7) == "1.5e-7" && NumberText.significant(-1.234e-9) == "-1.23e-9")
    #expect(NumberText.significant(1) == "1" && NumberText.significant(12.3456) == "12.3")
    #expect(NumberText.significant(123.4) == "123" && NumberText.significant(123_456.7) == "123457")
    #expect(NumberText.significant(0) == "0" && NumberText.significant(-0.0) == "0")
    #expect(NumberText.significant(.nan) == "nan" && NumberText.significant(-.infinity) == "-inf")
    // A number that rounds up to a power of ten is written as that.
    #expect(NumberText.significant(9.999e-8) == "1e-7" && NumberText.significant(0.9999) == "1")
    #expect(NumberText.significant(1e-30) == "1e-30")
    #expect(NumberText.significant(.leastNonzeroMagnitude).hasSuffix("e-324"))
  }

  @Test func percentagesArePrinted() {
    #expect(NumberText.percent(0.1423) == "14.2 %" && NumberText.percent(1) == "100 %")
    #expect(NumberText.percent(0) == "0 %" && NumberText.percent(0.05) == "5 %")
    #expect(NumberText.percent(0.00012345) == "0.0123 %" && NumberText.percent(12.3456) == "1235 %")
    #expect(NumberText.percent(1.4e-7) == "1.4e-05 %")
  }
}
