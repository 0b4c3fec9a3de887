#if MPI
  import CCommunicator

  /// One rank's part in an exchange over MPI.
  @safe final class MPIExchange: ExchangeInFlight {
    private let content: Exchange
    private let handle: OpaquePointer
    private unowned let transport: MPITransport
    private var isDone = false

    init(_ content: Exchange, tag: Int32, transport: MPITransport) throws(TransportFault) {
      self.content = content
      self.transport = transport
      let others = content.peers
      func messages(_ buffer: MessageBuffer, _ blocks: BlockLayout) -> [moe_message] {
        unsafe others.map { other in
          unsafe moe_message(
            bytes: buffer.base + blocks.offsets[other], count: Int64(blocks.counts[other]),
            piece: transport.pieceBytes(content.members[other]), rank: Int32(content.members[other]))
        }
      }
      var started: OpaquePointer?
      var peer: Int32 = -1
      let code = unsafe moe_mpi_start(
        messages(content.source, content.sent), Int32(others.count),
        messages(content.destination, content.received), Int32(others.count), tag, &started, &peer)
      guard let started = unsafe started else { throw .failed(Self.text(of: code, peer: peer)) }
      unsafe handle = started
    }

    deinit { if isDone { unsafe moe_mpi_free(handle) } }

    func test() throws(TransportFault) -> Bool {
      var fault = moe_mpi_fault()
      if unsafe moe_mpi_test(handle, &fault) {
        isDone = true
        transport.complete(self)
        return true
      }
      switch fault.kind {
      case MOE_MPI_NO_FAULT: return false
      case MOE_MPI_TOO_FEW:
        throw .mismatch(
          rank: Int(fault.rank), "sent \(fault.actual) bytes, where \(fault.expected) were expected")
      case MOE_MPI_TOO_MANY:
        throw .mismatch(rank: Int(fault.rank), "sent more than the \(fault.expected) bytes expected")
      default: throw .failed(Self.text(of: fault.code, peer: fault.rank))
      }
    }

    /// Returns MPI's text, preceded by the rank whose message failed, if any. Such a rank may have ended.
    private static func text(of code: Int32, peer: Int32) -> String {
      (peer < 0 ? "" : "the messages with rank \(peer) fail: ") + errorText(of: code)
    }

    var missing: [Int] {
      var flags = [Bool](repeating: false, count: transport.size)
      unsafe flags.withUnsafeMutableBufferPointer { unsafe moe_mpi_missing(handle, $0.baseAddress) }
      return flags.indices.filter { flags[$0] }
    }
  }

  /// Returns MPI's text for an error code.
  func errorText(of code: Int32) -> String {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { text in
      unsafe moe_mpi_error(code, text.baseAddress, text.count)
      return unsafe String(cString: text.baseAddress!)
    }
  }
#endif
