# Homebrew: brew install --HEAD Packaging/step3-toolkit.rb, in a clone: it builds what is committed there.
class Step3Toolkit < Formula
  desc "Convert, quantise, partition and verify checkpoints of Step-3"
  homepage "https://huggingface.co/stepfun-ai/step3"
  license "Apache-2.0"
  head "file://#{File.expand_path("..", __dir__)}", using: :git, branch: "main"

  depends_on "pkg-config" => :build
  depends_on xcode: ["26.0", :build]
  depends_on "jpeg-turbo"
  depends_on "libpng"
  depends_on "oniguruma"
  depends_on "pcre2"
  depends_on "xxhash"
  depends_on "zstd"

  uses_from_macos "curl"

  on_linux do
    depends_on "openblas"
  end

  def install
    system "Packaging/install.sh", prefix
  end

  test do
    header = '{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    (testpath/"a.safetensors").binwrite [header.bytesize].pack("Q<") + header + [1.0, 2.0].pack("e*")
    assert_match "w", shell_output("#{bin}/step3-inspect list a.safetensors")
    system bin/"step3-convert", "a.safetensors", "out", "--to", "gguf", "--quantize", "F32"
    assert_match "every byte is as it was written", shell_output("#{bin}/step3-verify checksums out")
  end
end
