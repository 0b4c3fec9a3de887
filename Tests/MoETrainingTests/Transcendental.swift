import Glibc

extension Float {
  var exponential: Float { Float(exp(Double(self))) }
}

extension Double {
  var naturalLogarithm: Double { log(self) }
}
