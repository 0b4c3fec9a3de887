import ArgumentParser
import MoE
import MoECheckpoints

/// Applies a routing policy to logits.
struct RouteCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "route", abstract: "Apply a routing policy to logits and show where the tokens go.",
    discussion: """
      Prints the load of each expert, what was dropped and the losses. With --output it writes “expert_ids” \
      [T,K] I32 (−1 for padding and for a second expert that the rule does not take), “weights” [T,K] F32 (0 where \
      dropped), “slots” [T,K] I32 (−1 where dropped), “drop_reasons” [T,K] I32 (0 kept, 1 capacity, 2 the rule of the \
      second expert, 3 padding), “margins” [T] F32, “counts” [E] I32 (before dropping), “capacity” [1] I32 (the largest \
      count where nothing can be dropped), “auxiliary_loss” [1] F32 (the policy's own, without a coefficient) and \
      “z_loss” [1] F32. soft-moe writes “dispatch” and “combine” [T,E·S] F32.

      Random rules draw numbers that depend on --seed and on the token alone. --train adds the noise that the system \
      has in training only.

      Examples:
        moe route --list
        moe route --show deepspeed-top1
        moe route logits.safetensors --policy switch --capacity-factor 1.0
        moe route logits.safetensors --policy deepspeed-top1 --no-rts
        moe route --diff switch deepspeed-top1 logits.safetensors
        moe route logits.safetensors --policy deepseek-v3 --output y.safetensors
      """)

  @Argument(help: "A safetensors file with “logits” [T,E], or one tensor of that shape.") var logits: String?
  @Option(help: "The policy, by a name of --list.") var policy: String?
  @Flag(help: "List the policies.") var list = false
  @Option(help: ArgumentHelp("Print a policy in full, axis by axis.", valueName: "policy")) var show: String?
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "List the tokens that two policies route differently, and why; the logits may follow them.",
      valueName: "policy> <policy"))
  var diff: [String] = []
  @OptionGroup var rule: RouteOptions
  @Option(help: "The safetensors file to write.") var output: String?
  @OptionGroup var options: ExecutionOptions

  /// The logits, which may have been read as a third value of --diff.
  private var file: String? { logits ?? (diff.count == 3 ? diff[2] : nil) }

  func validate() throws {
    let modes = [
      ("--list", list), ("--show", show != nil), ("--diff", !diff.isEmpty), ("--policy", policy != nil),
    ]
    .filter(\.1).map(\.0)
    if list || show != nil {
      let given =
        modes.dropFirst() + [("a file", logits != nil), ("--output", output != nil)].filter(\.1).map(\.0)
      if let option = (given + rule.given).first {
        throw ValidationError(
          "\(modes[0]) prints the policies and routes nothing, so it goes without \(option); give one of both"
        )
      }
      if let show { _ = try Self.preset(show, option: "--show") }
      return
    }
    guard modes.count < 2 else {
      throw ValidationError("\(modes[0]) and \(modes[1]) do different things; give one of them")
    }
    if !diff.isEmpty {
      guard diff.count == 2 || diff.count == 3 && logits == nil else {
        throw ValidationError("--diff takes two policies, but \(diff.count) values were given")
      }
      if output != nil { throw ValidationError("--diff prints a table and has no --output") }
      if diff.prefix(2).contains("soft-moe") {
        throw ValidationError("soft-moe gives no token experts of its own, so --diff cannot compare it")
      }
    }
    guard file != nil else { throw ValidationError("a file with logits is missing") }
    guard policy != nil || !diff.isEmpty else {
      throw ValidationError("--policy is missing; moe route --list shows the names")
    }
    try rule.validateValues()
    // Two policies need not have the same options: each takes its own.
    if let policy {
      try rule.refuseUnused(by: Self.preset(policy, option: "--policy"))
    } else {
      try rule.refuseUnused(byAll: diff.prefix(2).map { try Self.preset($0, option: "--diff") })
    }
  }

  private static func preset(_ name: String, option: String) throws -> RoutingPreset {
    guard let preset = RoutingPreset.named(name) else {
      throw ValidationError(
        "\(option) is “\(name)”, expected one of \(RoutingPreset.all.map(\.name).joined(separator: ", "))")
    }
    return preset
  }

  func run() throws {
    if list {
      var table = TextTable("policy", "what it does", leftAligned: [1])
      for preset in RoutingPreset.all { table.add(preset.name, preset.summary) }
      table.write()
      return
    }
    if let show { return PolicyDescription(try Self.preset(show, option: "--show")).write() }
    let execution = try options.execution()
    if let output { try AtomicFile.check(output, isNoneOf: [file!]) }
    let input = try RouteInput(file!, rule)
    if !diff.isEmpty {
      let presets = try diff.prefix(2).map { try Self.preset($0, option: "--diff") }
      return try RouteDifference(presets.map { try input.route(by: $0, rule, execution) }).write()
    }
    if case .soft = try Self.preset(policy!, option: "--policy").policy(.init(expertCount: 1)).assignment {
      return try show(input.softAssignment(execution))
    }
    let routed = try input.route(by: Self.preset(policy!, option: "--policy"), rule, execution)
    if routed.policy.scoring == .softmaxOverSelected, routed.record.expertsPerToken == 1 {
      StandardStream.errors.line(
        "warning: --policy \(policy!) with a top-k of 1 gives each chosen expert the weight 1, so a router that is "
          + "trained with it gets no gradient; a top-k of 2 or --policy softmax-topk gives one")
    }
    if let output { try routed.write(to: output) }
    routed.show(in: output.map { StandardStream.besides($0) } ?? .output)
  }

  /// Writes and prints the weights of Soft MoE, in which no token has experts of its own.
  private func show(_ soft: SoftAssignment) throws {
    if let output {
      var writer = SafetensorsWriter()
      try writer.add("dispatch", soft.dispatch)
      try writer.add("combine", soft.combine)
      try writer.write(to: output)
    }
    let stream = output.map { StandardStream.besides($0) } ?? .output
    stream.line(
      "\(policy!): \(soft.dispatch.rows) tokens in \(soft.dispatch.columns) slots, each a weighted mean of all tokens"
    )
    var table = TextTable("slot", "largest token", "weight")
    for slot in 0..<soft.dispatch.columns where soft.dispatch.rows > 0 {
      let best = (0..<soft.dispatch.rows).max { soft.dispatch[$0, slot] < soft.dispatch[$1, slot] }!
      table.add("\(slot)", "\(best)", fixed(Double(soft.dispatch[best, slot]), 4))
    }
    for line in table.lines { stream.line(line) }
    stream.line("nothing is dropped, and there is no auxiliary loss")
  }
}
