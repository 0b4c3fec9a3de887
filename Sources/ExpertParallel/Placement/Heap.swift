/// A binary heap: what comes first by an order is at hand.
struct Heap<Element> {
  private var elements: [Element] = []
  private let comesBefore: (Element, Element) -> Bool

  init(by comesBefore: @escaping (Element, Element) -> Bool) { self.comesBefore = comesBefore }

  mutating func insert(_ element: Element) {
    elements.append(element)
    var index = elements.count - 1
    while index > 0, comesBefore(elements[index], elements[(index - 1) / 2]) {
      elements.swapAt(index, (index - 1) / 2)
      index = (index - 1) / 2
    }
  }

  /// Takes out the first; nil where there is none.
  mutating func popFirst() -> Element? {
    guard let first = elements.first else { return nil }
    let last = elements.removeLast()
    if elements.isEmpty { return first }
    elements[0] = last
    var index = 0
    while true {
      var least = index
      for child in [2 * index + 1, 2 * index + 2]
      where child < elements.count && comesBefore(elements[child], elements[least]) {
        least = child
      }
      if least == index { return first }
      elements.swapAt(index, least)
      index = least
    }
  }
}
