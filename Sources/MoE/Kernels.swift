/// The Swift face of the C kernels, one file for each kernel: conversions, scratch and the call, nothing else.
///
/// The callers have checked all shapes. The stages of a pass contain no `unsafe`. Besides these files, only ``Memory``,
/// ``MemoryView``, ``Parallel``, ``Execution`` and the copies between matrices, panels and parameters contain it.
package enum Kernels {}
