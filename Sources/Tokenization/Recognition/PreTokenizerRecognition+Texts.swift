extension PreTokenizerRecognition {
  /// The text whose ids distinguish published tokenizers: white space, digits in runs of every length, scripts with
  /// marks, pictographs that are joined, punctuation, and English endings in both cases.
  ///
  /// Source: `get_vocab_base_pre` of llama.cpp's converter.
  static let checkText =
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u{200D}🌫\u{FE0F} (mult"
    + "iple emojis concatenated) ✅ 🦙🦙 3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 "
    + "3...3 \u{1780}\u{17B6}\u{1793}\u{17CB}\u{178F}\u{17C2}\u{1796}\u{17B7}\u{179F}"
    + "\u{17C1}\u{179F}\u{17A2}\u{17B6}\u{1785}😁 ?我想在apple工作1314151天～ ------======= нещо на"
    + " Български ''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE y"
    + "ou sure? 'M not sure I'll make it, 'D you like some tea? We'Ve a'lL"

  /// Further texts to compare splits on: what the first lacks, in all kinds of contexts.
  static let probes: [String] = {
    // A multiplicative generator, so that the texts are the same everywhere.
    var state: UInt64 = 0x5DEE_CE66
    func next(below limit: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((state >> 33) % UInt64(limit))
    }
    var texts = [
      "12345678901234567", "a" + String(repeating: " ", count: 777) + "b",
      String(repeating: "\n", count: 9) + " x",
      "HelloWorld helloWORLD HELLOworld McDonald's DON'T it'S", "end.  \n\n  Next/\n//path\r\n\r\n", "   ",
      "",
    ]
    for _ in 0..<48 {
      var text = ""
      for _ in 0..<96 { text += fragments[next(below: fragments.count)] }
      texts.append(text)
    }
    return texts
  }()

  /// Letters of every case and of several scripts, marks, numbers of every kind, punctuation, symbols, white space,
  /// controls, and unassigned scalars.
  private static let fragments: [String] = [
    "a", "b", "Z", "Q", "ß", "É", "ſ", "\u{212A}", "\u{1C5}", "\u{2B0}", "中", "龥", "\u{9FA6}", "가",
    "\u{3131}", "あ", "ア", "ก",
    "ж", "Ж", "e\u{301}", "\u{301}", "\u{903}", "\u{93E}", "1", "23", "456", "7890", "\u{663}", "²",
    "\u{2167}", "'", "'s",
    "'S", "'t", "'RE", "'ve", "'ll", "'D", "'m", "'x", "’s", "\"", "_", "/", "-", ".", ",", "!", "(", "[",
    "{", "+", "$", "^",
    "`", "|", "~", "<", "=", "。", "“", "（", "\u{2026}", "😀", "\u{200D}", "\u{FE0F}", " ", " ", " ", "  ",
    "\t", "\n", "\n",
    "\r", "\r\n", "\u{A0}", "\u{3000}", "\u{2028}", "\u{0}", "\u{7F}", "\u{E000}", "\u{378}",
  ]
}
