import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

// Usage: hub-server ROOT
//
// Serves ROOT/OWNER/NAME as a hub, and under /static/OWNER/NAME as a plain server, on two ports of 127.0.0.1 that it
// prints: that of the hub and that of the body host. Exits when its standard input ends.

struct Ports: Sendable {
  var hub: Int
  var bodies: Int
}

guard CommandLine.arguments.count == 2 else {
  FileHandle.standardError.write(Data("usage: hub-server ROOT\n".utf8))
  exit(64)
}
let store = Store(CommandLine.arguments[1])
let sessions = Sessions()

typealias Client = NIOAsyncChannel<HTTPServerRequestPart, HTTPServerResponsePart>

func listen() async throws -> NIOAsyncChannel<Client, Never> {
  try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
    .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
    .bind(host: "127.0.0.1", port: 0) { channel in
      channel.eventLoop.makeCompletedFuture {
        try channel.pipeline.syncOperations.configureHTTPServerPipeline()
        return try Client(wrappingChannelSynchronously: channel)
      }
    }
}

func serve(_ listener: NIOAsyncChannel<Client, Never>, _ responder: Responder) async throws {
  try await listener.executeThenClose { clients in
    try await withThrowingDiscardingTaskGroup { group in
      for try await client in clients {
        group.addTask {
          // Clients that disconnect, and connections that are closed on purpose, end up here.
          try? await client.executeThenClose { inbound, outbound in
            for try await part in inbound {
              if case .head(let head) = part {
                try await responder.answer(
                  head, Responder.Output(writer: outbound, isHead: head.method == .HEAD))
              }
            }
          }
        }
      }
    }
  }
}

let hub = try await listen()
let bodies = try await listen()
let ports = Ports(hub: hub.channel.localAddress!.port!, bodies: bodies.channel.localAddress!.port!)
FileHandle.standardOutput.write(Data("\(ports.hub) \(ports.bodies)\n".utf8))

Thread.detachNewThread {
  while !FileHandle.standardInput.availableData.isEmpty {}
  exit(0)
}

try await withThrowingTaskGroup { group in
  group.addTask {
    try await serve(hub, Responder(store: store, sessions: sessions, isBodyHost: false, ports: ports))
  }
  group.addTask {
    try await serve(bodies, Responder(store: store, sessions: sessions, isBodyHost: true, ports: ports))
  }
  try await group.waitForAll()
}
