import ExpertParallel
import Testing

@Suite struct TagLayoutTests {
  /// MPI promises 32767; UCX has 23 bits, Open MPI's own transports 31.
  @Test(arguments: [32_767, 8_388_607, 2_147_483_647]) func exchangesUnderWayHaveTagsOfTheirOwn(largest: Int)
  {
    let layout = TagLayout(largestTag: largest)
    let contexts = [0, 1, layout.contextCount - 1]
    let sequences = Array(0..<50) + [layout.sequenceCount - 1]
    var tags: Set<Int> = []
    for context in contexts {
      for sequence in sequences {
        for stage in 0..<4 {
          let tag = layout.tag(context: context, sequence: sequence, stage: stage)
          #expect(tag.map { (0...largest).contains($0) } == true)
          tags.insert(tag ?? -1)
        }
      }
    }
    #expect(tags.count == contexts.count * sequences.count * 4)
    #expect(layout.tag(context: layout.contextCount, sequence: 0, stage: 0) == nil)
    #expect(
      layout.tag(context: 1, sequence: layout.sequenceCount + 3, stage: 1)
        == layout.tag(context: 1, sequence: 3, stage: 1))
  }
}
