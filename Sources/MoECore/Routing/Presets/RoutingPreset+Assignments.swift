/// The rules in which experts, a plan or a hash choose.
extension RoutingPreset {
  static let assignments: [RoutingPreset] = []
}
