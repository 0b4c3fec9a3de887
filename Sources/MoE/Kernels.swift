/// The Swift face of the C kernels, one file a kernel: conversions, scratch and the call, nothing else.
///
/// These files and `Memory` are where the module is `unsafe`; shapes were checked by the layer that calls.
package enum Kernels {}
