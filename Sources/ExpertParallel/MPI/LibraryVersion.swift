import CCommunicator

/// The name and version of the MPI library, such as "Open MPI v4.1.4"; nil in a build without the package trait `MPI`.
package var libraryVersionOfMPI: String? {
  guard moe_mpi_is_built_in() else { return nil }
  return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { text in
    unsafe moe_mpi_version(text.baseAddress, text.count)
    return unsafe String(cString: text.baseAddress!)
  }
}
