/// The Swift face of the C kernels, one file for each kernel: conversions, scratch and the call, nothing else.
///
/// The callers have checked all shapes. Besides these files, those of ``Memory``, ``MemoryView``, panels and the
/// threads of ``Parallel`` are `unsafe`, and no stage of a pass is.
package enum Kernels {}
