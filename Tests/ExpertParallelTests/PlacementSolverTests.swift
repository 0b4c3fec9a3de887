import ExpertParallel
import MoECore
import TestSupport
import Testing

@Suite struct PlacementSolverTests {
  /// Experts with loads, and ranks for them.
  struct Problem: Shrinkable, CustomStringConvertible {
    var load: [Int]
    var rankCount: Int
    var slotCount: Int
    var extraCount: Int

    /// - Parameters:
    ///   - experts: the largest number of experts.
    ///   - ranks: the largest number of ranks.
    init(seed: UInt64, experts: Int, ranks: Int) {
      var generator = SeededGenerator(seed: seed)
      func number(_ range: ClosedRange<Int>) -> Int {
        range.lowerBound + Int(generator.next() % UInt64(range.count))
      }
      let expertCount = number(1...experts)
      rankCount = number(1...ranks)
      slotCount = number(1...4) + (expertCount - 1) / rankCount
      extraCount = number(0...2) * number(0...3)
      // Even, skewed, equal and with experts that nobody chose.
      let kind = number(0...3)
      load = (0..<expertCount).map { expert in
        switch kind {
        case 0: number(0...100)
        case 1: number(0...1000) / (1 + expert * expert)
        case 2: 7
        default: max(0, number(0...40) - 20)
        }
      }
    }

    var description: String {
      "load \(load), \(rankCount) ranks of \(slotCount) slots, \(extraCount) copies"
    }

    var smaller: [Problem] {
      var all: [Problem] = []
      func add(_ change: (inout Problem) -> Void) {
        var problem = self
        change(&problem)
        if problem != self, !problem.load.isEmpty, problem.rankCount > 0,
          problem.slotCount * problem.rankCount >= problem.load.count
        {
          all.append(problem)
        }
      }
      for index in load.indices { add { $0.load.remove(at: index) } }
      add { $0.rankCount -= 1 }
      add { $0.slotCount -= 1 }
      add { $0.extraCount = max(0, $0.extraCount - 1) }
      for index in load.indices { add { $0.load[index] /= 2 } }
      return all
    }

    func solution() throws -> PlacementSolver.Solution {
      try PlacementSolver(
        expertCount: load.count, rankCount: rankCount, slotCount: slotCount, extraCount: extraCount
      ).solve(load: load)
    }

    /// The rows of each rank by the definition.
    func rows(of experts: [[Int]]) -> [Int] {
      var rows = [Int](repeating: 0, count: rankCount)
      for (expert, load) in load.enumerated() {
        let ranks = experts.indices.filter { experts[$0].contains(expert) }
        for (index, rank) in ranks.enumerated() {
          rows[rank] += (index + 1) * load / ranks.count - index * load / ranks.count
        }
      }
      return rows
    }

    /// Returns the rule that a placement breaks; nil if it breaks none.
    func violation(of solution: PlacementSolver.Solution) -> String? {
      let experts = solution.placement.experts
      let copies = experts.map(\.count).reduce(0, +) - load.count
      if experts.count != rankCount || experts.contains(where: \.isEmpty) { return "a rank has no expert" }
      if Set(experts.joined()) != Set(load.indices) { return "an expert is on no rank" }
      if experts.contains(where: { $0.count > slotCount }) { return "a rank has too many experts" }
      if experts.contains(where: { Set($0).count < $0.count }) { return "a rank has an expert twice" }
      if copies > max(extraCount, rankCount - load.count, 0) { return "\(copies) copies" }
      if solution.rows != rows(of: experts) { return "the rows are \(rows(of: experts))" }
      return nil
    }

    /// The smallest row count of the rank with the most rows, over all placements.
    func optimum() -> Int {
      let (subsets, most) = (1..<1 << rankCount, max(extraCount, rankCount - load.count, 0))
      var experts: [[Int]] = Array(repeating: [], count: rankCount)
      var best = Int.max
      func place(_ expert: Int, _ copies: Int) {
        if expert == load.count {
          if experts.allSatisfy({ !$0.isEmpty }) { best = min(best, rows(of: experts).max()!) }
          return
        }
        for subset in subsets where copies + subset.nonzeroBitCount - 1 <= most {
          let ranks = experts.indices.filter { subset >> $0 & 1 == 1 }
          if ranks.contains(where: { experts[$0].count == slotCount }) { continue }
          for rank in ranks { experts[rank].append(expert) }
          place(expert + 1, copies + ranks.count - 1)
          for rank in ranks { experts[rank].removeLast() }
        }
      }
      place(0, 0)
      return best
    }
  }

  @Test func aPlacementKeepsToItsRulesAndIsNeverWorseThanContiguous() {
    checkProperty(seeds: 0..<600 as Range<UInt64>, of: { Problem(seed: $0, experts: 24, ranks: 12) }) {
      problem in
      let solution = try problem.solution()
      if let violation = problem.violation(of: solution) { throw Counterexample(violation) }
      try ensure(solution.bound <= solution.largestRows, "below its bound: \(solution)")
      try ensure(try problem.solution() == solution, "another one the second time")
      let contiguous = ExpertPlacement(expertCount: problem.load.count, rankCount: problem.rankCount)
      try ensure(
        solution.contiguousRows == problem.rows(of: contiguous.experts).max()!, "contiguous: \(solution)")
      if contiguous.experts.allSatisfy({ $0.count <= problem.slotCount }) {
        try ensure(solution.largestRows <= solution.contiguousRows, "worse than contiguous: \(solution)")
      }
    }
  }

  /// Longest processing time first is within 4/3 − 1/(3R) of the optimum (Graham 1969), without limits of slots and
  /// replicas; with them the search has to make up for it.
  @Test func smallPlacementsAreNearTheOptimum() {
    var optimal = 0
    checkProperty(seeds: 0..<250 as Range<UInt64>, of: { Problem(seed: $0, experts: 6, ranks: 3) }) {
      problem in
      let (solution, optimum) = (try problem.solution(), problem.optimum())
      try ensure(solution.bound <= optimum, "the bound \(solution.bound) is above the optimum \(optimum)")
      try ensure(3 * solution.largestRows <= 4 * optimum, "\(solution), optimum \(optimum)")
      if solution.largestRows == optimum { optimal += 1 }
    }
    #expect(optimal >= 225)
  }

  @Test func moreCopiesAreNeverWorse() throws {
    for seed: UInt64 in 0..<60 {
      var problem = Problem(seed: seed, experts: 16, ranks: 6)
      problem.extraCount = 0
      var before = try problem.solution()
      for copies in [1, 3, 7, 15] {
        problem.extraCount = copies
        let solution = try problem.solution()
        #expect(solution.largestRows <= before.largestRows, "\(problem)")
        #expect(solution.bound <= before.bound, "\(problem)")
        before = solution
      }
    }
  }

  @Test func aHotExpertIsCopiedAndTheLineSaysWhatItBrought() throws {
    let load = [900, 100, 100, 100, 100, 100, 100, 100]
    let single = try PlacementSolver(expertCount: 8, rankCount: 4, slotCount: 4).solve(load: load)
    #expect(single.description == "rows per rank: 900 at most (contiguous 1000), bound 900, gap 0.0 %")
    func solve(slots: Int) throws -> PlacementSolver.Solution {
      try PlacementSolver(expertCount: 8, rankCount: 4, slotCount: slots, extraCount: 6).solve(load: load)
    }
    let copied = try solve(slots: 4)
    // Two copies are enough, so no more are made.
    #expect(copied.placement.replicas.map(\.count) == [3, 1, 1, 1, 1, 1, 1, 1])
    #expect(copied.description == "rows per rank: 400 at most (contiguous 1000), bound 400, gap 0.0 %")
    let tight = try solve(slots: 3)
    #expect(tight.description == "rows per rank: 425 at most (contiguous 1000), bound 400, gap 6.3 %")
  }

  @Test func nothingMovesWhereTheContiguousPlacementIsBest() throws {
    for load in [[5, 5, 5, 5], [0, 0, 0, 0], [9, 0, 1, 8]] {
      let solution = try PlacementSolver(expertCount: 4, rankCount: 2, slotCount: 4, extraCount: 4).solve(
        load: load)
      #expect(solution.placement == ExpertPlacement(expertCount: 4, rankCount: 2))
    }
  }

  /// Loads of millions of rows that fall like those of trained routers, over many ranks.
  @Test(arguments: [(512, 1000, 600), (512, 64, 64), (512, 64, 0), (512, 8, 0), (4096, 1000, 1000)])
  func manyExpertsAreBalanced(experts: Int, ranks: Int, copies: Int) throws {
    let load = (0..<experts).map { 8_000_000 / (8 + $0 * 7919 % experts) }
    let solution = try PlacementSolver(
      expertCount: experts, rankCount: ranks, slotCount: experts / ranks + 3, extraCount: copies
    ).solve(load: load)
    #expect(solution.gap < 5, "\(solution)")
    #expect(solution.largestRows < solution.contiguousRows)
  }

  @Test func whatCannotBePlacedIsNamed() throws {
    for (experts, ranks, slots, part) in [
      (9, 2, 4, "9 experts do not fit 2 ranks of 4"), (0, 2, 4, "0 experts"), (9, 0, 4, "on 0 ranks"),
      (9, 2, 0, "ranks of 0"),
    ] {
      let error = #expect(throws: MoEError.self) {
        try PlacementSolver(expertCount: experts, rankCount: ranks, slotCount: slots)
      }
      #expect("\(error!)".contains(part), "\(error!)")
    }
    let solver = try PlacementSolver(expertCount: 2, rankCount: 2)
    for (load, part) in [
      ([1], "load"), ([1, -1], "expert 1 has a load of -1"), ([1 << 53, 1], "at most 2^53"),
    ] {
      let error = #expect(throws: MoEError.self) { try solver.solve(load: load) }
      #expect("\(error!)".contains(part), "\(error!)")
    }
  }
}
