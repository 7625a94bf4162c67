import Foundation
import RemoteFiles
import TensorFormats
import Testing

/// Addresses that are accepted or refused before any server is asked; an offline environment makes sure of that.
struct AddressTests {
  private func failure(_ address: String, _ variables: [String: String] = [:]) -> CheckpointError? {
    let all = ["HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"].merging(variables) { $1 }
    do {
      _ = try RemoteDirectory(address, options: RemoteOptions(environment: HubEnvironment { all[$0] }))
      return nil
    } catch {
      return error
    }
  }

  @Test func addressesAreDistinguishedFromPaths() {
    for text in ["hf://a/b", "https://h/x", "ms://a/b", "HTTPS://h/x", "s3://b/k"] {
      #expect(RemoteDirectory.isRemote(text))
    }
    for text in ["/a/b", "a:b", "C:/x", "dir/hf://x", "://x", "", "1x://y"] {
      #expect(!RemoteDirectory.isRemote(text))
    }
  }

  @Test(arguments: [
    ("hf://owner/name", "hf://owner/name@main"), ("hf://gpt2", "hf://gpt2@main"),
    ("hf://owner/name@v1", "hf://owner/name@v1"),
    ("hf://owner/name@refs/pr/3/sub", "hf://owner/name@refs/pr/3/sub"),
    ("hf://owner/name@refs%2Fpr%2F3", "hf://owner/name@refs/pr/3"),
    ("https://huggingface.co/owner/name", "hf://owner/name@main"),
    ("https://huggingface.co/owner/name/", "hf://owner/name@main"),
    ("https://hf.co/owner/name/tree/v2/sub", "hf://owner/name@v2/sub"),
    ("https://huggingface.co/owner/name/tree/refs%2Fpr%2F1", "hf://owner/name@refs/pr/1"),
    ("https://hf-mirror.com/owner/name/blob/main/a.gguf", "hf://owner/name@main"),
    ("https://mirror.example/hub/owner/name", "hf://owner/name@main"),
    ("https://modelscope.cn/models/owner/name", "https://modelscope.cn/models/owner/name"),
    ("https://example.com/dir/?x=1", "https://example.com/dir/?…"),
    ("https://example.com/a.gguf?X-Amz-Signature=abc", "https://example.com/a.gguf?…"),
  ])
  func addressesAreAccepted(_ address: String, _ path: String) {
    let error = failure(address, ["HF_ENDPOINT": "https://mirror.example/hub/"])
    #expect(error?.code == .notFound)
    #expect(error?.message.contains("HF_HUB_OFFLINE") == true)
    #expect(error?.path == path)
  }

  @Test(arguments: [
    "hf://", "hf:///", "hf://datasets/a/b", "hf://spaces/a/b", "hf://owner/../name", "hf://owner/name@",
    "hf://owner/na me", "hf://owner/%2e%2e", "hf://owner/name/..%2f..", "s3://bucket/key", "ftp://host/x",
    "https://user:password@host/x.gguf", "https://", "https://host:99999/x", "hf://owner/name/a%00b",
  ])
  func badAddressesAreRefused(_ address: String) {
    let error = failure(address)
    #expect(error?.code == .invalidRequest, "\(address): \(error?.description ?? "opened")")
    #expect(error?.description.contains("password@") == false)
  }

  @Test func environmentVariablesAreThoseOfTheHubsClient() throws {
    func environment(_ variables: [String: String]) -> HubEnvironment { HubEnvironment { variables[$0] } }
    #expect(environment(["HOME": "/h"]).cacheDirectory == "/h/.cache/huggingface/hub")
    #expect(environment(["HOME": "/h", "XDG_CACHE_HOME": "/x"]).cacheDirectory == "/x/huggingface/hub")
    #expect(environment(["HOME": "/h", "HF_HOME": "~/y"]).cacheDirectory == "/h/y/hub")
    #expect(environment(["HF_HOME": "/y", "HF_HUB_CACHE": "/z"]).cacheDirectory == "/z")
    #expect(environment([:]).endpoint == "https://huggingface.co")
    #expect(environment(["HF_ENDPOINT": "http://m/x//"]).endpoint == "http://m/x")
    #expect(environment(["HF_TOKEN": " hf_a\n"]).token == "hf_a")
    #expect(environment(["HF_TOKEN": "hf_a\r\nHost: x"]).token == nil)
    #expect(environment(["HF_TOKEN": "hf_a", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"]).token == nil)
    let file = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
    try Data("hf_file\n".utf8).write(to: file)
    defer { try? FileManager.default.removeItem(at: file) }
    let path = file.path(percentEncoded: false)
    #expect(environment(["HF_TOKEN_PATH": path]).token == "hf_file")
    #expect(environment(["HF_TOKEN_PATH": path, "HF_TOKEN": "hf_b"]).token == "hf_b")
    for value in ["1", "true", "YES", "on"] { #expect(environment(["HF_HUB_OFFLINE": value]).isOffline) }
    for value in ["0", "", "no"] { #expect(!environment(["HF_HUB_OFFLINE": value]).isOffline) }
  }
}
