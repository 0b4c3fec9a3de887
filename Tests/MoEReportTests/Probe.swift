import Foundation
import Testing

/// The findings of a script that only the test's copy of a page has.
struct Probe: Decodable {
  /// The page's width and the width of what is on it, in CSS pixels.
  var width: Int
  var scrollWidth: Int
  /// Things that the page asked a server or a disk for.
  var resources: [String]
  /// Whether the dark theme is on.
  var isDark: Bool
  var textCount: Int
  /// Texts with too little contrast: the ratio, the colours, the text.
  var faint: [String]
  /// Elements that reach beyond the page's right edge without scrolling by themselves.
  var wide: [String]
  /// The views of the switch that could be seen after its button was pressed.
  var views: [String]
  /// Elements that no report has: a hostile name got through.
  var foreign: [String]

  /// Opens copies of the page with the script, in frames of these widths: a window is never narrower than 500 pixels.
  ///
  /// - Returns: what was found in each frame.
  static func run(_ html: String, theme: Browser.Theme, widths: [Int]) throws -> [Probe] {
    try withTemporaryFolder { folder in
      let policy = "script-src 'unsafe-inline'; default-src 'none'"
      let copy = html.replacing("default-src 'none'", with: policy).replacing(
        "</body>", with: "<script>\(script)</script></body>")
      try Data(copy.utf8).write(to: folder.appending(path: "page.html"))
      let frames = widths.map {
        "<iframe src=\"page.html\" style=\"border:0;width:\($0)px;height:900px\"></iframe>"
      }
      // The listener stands first: a frame may be done before the page is read to its end.
      let page = """
        <!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>frames</title>
        <body style="margin:0"><script>
          const results = [];
          addEventListener('message', e => {
            const frame = [...document.querySelectorAll('iframe')].findIndex(f => f.contentWindow === e.source);
            results[frame] = JSON.parse(e.data);
            if (results.filter(r => r).length < \(widths.count)) return;
            const result = document.createElement('pre');
            result.id = 'result';
            result.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(results))));
            document.body.append(result);
          })</script>\(frames.joined())
        """
      try Data(page.utf8).write(to: folder.appending(path: "frames.html"))
      let output = try Browser.dump(folder.appending(path: "frames.html"), theme: theme, width: 1400)
      #expect(output.console.isEmpty, "\(output.console)")
      let match = try #require(
        output.dom.firstMatch(of: /<pre id="result">([^<]*)</), "the probe said nothing")
      let data = try #require(Data(base64Encoded: String(match.1)))
      return try JSONDecoder().decode([Probe].self, from: data)
    }
  }

  private static let script = #"""
    const luminance = c => { const [r, g, b] = c.map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
      return .2126 * r + .7152 * g + .0722 * b };
    const parse = s => s.match(/[\d.]+/g).map(Number);
    const background = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c.slice(0, 3) } return [255, 255, 255] };
    const result = {width: document.documentElement.clientWidth, scrollWidth: 0, textCount: 0, faint: [], wide: [],
      views: [], isDark: matchMedia('(prefers-color-scheme: dark)').matches,
      resources: performance.getEntriesByType('resource').map(r => r.name),
      foreign: [...document.querySelectorAll('img,link,iframe,object,embed,a,form,video,audio,base,script')]
        .filter(e => e !== document.currentScript).map(e => e.outerHTML.slice(0, 80))};
    const look = () => {
      result.scrollWidth = Math.max(result.scrollWidth, document.documentElement.scrollWidth);
      const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      for (let node; node = walker.nextNode();) {
        const e = node.parentElement;
        if (!node.data.trim() || e.closest('script,title,.hidden') || !e.getClientRects().length) continue;
        result.textCount++;
        const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(background(e))];
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        if (ratio < 4.5 && result.faint.length < 9) result.faint.push(`${ratio.toFixed(2)} .${e.className} ${node.data.slice(0, 30)}`);
        if (e.getBoundingClientRect().right > result.width + 1 && !e.closest('.scroll'))
          result.wide.push(`.${e.className} ${node.data.slice(0, 30)}`);
      }
    };
    look();
    for (const input of document.querySelectorAll('input[type=radio]')) {
      input.checked = true;
      look();
      result.views.push([...document.querySelectorAll('.view')].filter(v => v.getClientRects().length)
        .map(v => v.id).join());
    }
    parent.postMessage(JSON.stringify(result), '*');
    """#
}
