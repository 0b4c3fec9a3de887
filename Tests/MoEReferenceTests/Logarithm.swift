#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

/// The natural logarithm, which turns odds into logits.
func ln(_ x: Double) -> Double { log(x) }
