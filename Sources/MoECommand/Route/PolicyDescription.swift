import Foundation
import MoE

/// A preset's policy in full, axis by axis.
struct PolicyDescription {
  private let preset: RoutingPreset

  init(_ preset: RoutingPreset) { self.preset = preset }

  /// Prints the axes, and the options that the preset has.
  func write() {
    let policy = preset.policy(.init(expertCount: 64))
    let out = StandardStream.output
    out.line("\(preset.name): \(preset.summary)")
    out.line("source         \(preset.source)")
    out.line("top-k          \(preset.expertsPerToken)")
    for (name, value) in policy.axes {
      out.line(name.padding(toLength: 15, withPad: " ", startingAt: 0) + value)
    }
    let options = preset.options.map(\.flag).sorted()
    out.line("options        \(options.isEmpty ? "none" : options.joined(separator: " "))")
  }
}

extension RoutingPreset.Option {
  /// The option of the command line.
  fileprivate var flag: String {
    switch self {
    case .topK: "--top-k"
    case .capacityFactor: "--capacity-factor"
    case .minimumCapacity: "--min-capacity"
    case .capacity: "--capacity"
    case .dropOrder: "--drop-policy"
    case .noDrop: "--no-drop"
    case .groups: "--groups"
    case .groupSize: "--group-size"
    case .selectionBias: "--selection-bias"
    case .randomTokenSelection: "--no-rts"
    case .secondSampling: "--no-second-sampling"
    case .secondPolicy: "--second-policy"
    case .scale: "--scale"
    case .mask: "--mask"
    case .tokenIDs: "--token-ids"
    }
  }
}
