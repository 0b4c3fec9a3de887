internal import MoERun

/// `run.json` as the report reads it: configurations of the model and of training are values to be shown.
typealias ReadDescription = RunDescription<JSONSetting, JSONSetting>

extension RunDescription {
  /// The complaint about a count that is out of range; nil where there is none.
  var complaint: String? {
    if parameters.activePerToken > parameters.total {
      return
        "“parameters.active_per_token” is \(parameters.activePerToken), more than the total of \(parameters.total)"
    }
    let counts = [
      parameters.total, parameters.activePerToken, parameters.experts, data.trainBytes, data.validationBytes,
    ]
    if let count = counts.first(where: { !(0...1 << 60).contains($0) }) {
      return "a count of parameters or bytes is \(count), expected 0 to 2^60"
    }
    for file in data.files {
      for count in [file.trainBytes, file.validationBytes] where !(0...1 << 50).contains(count) {
        return "“\(file.path)” has \(count) bytes, expected 0 to 2^50"
      }
    }
    if !(0...1_000_000_000_000_000_000).contains(flopsPerToken) {
      return "“flops_per_token” is \(flopsPerToken), expected 0 to 10^18"
    }
    return nil
  }
}
