import Glibc

extension Double {
  var exponential: Double { exp(self) }
  var logarithm: Double { log(self) }
  var cosine: Double { cos(self) }
  var sine: Double { sin(self) }
}
