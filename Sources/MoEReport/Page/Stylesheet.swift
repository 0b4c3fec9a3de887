/// The page's style: system fonts, two themes by custom properties, and the colours that marks need.
func stylesheet(_ run: RecordedRun) -> String {
  let light = themeProperties(.light)
  let dark = themeProperties(.dark)
  let lightMarks = markColors(.light, run)
  let darkMarks = markColors(.dark, run)
  return """
    :root{\(light)}
    \(lightMarks)
    @media screen and (prefers-color-scheme:dark){:root{\(dark)}\(darkMarks)}
    \(lineStyles)
    \(viewRules(run))
    \(layoutStyle)
    """
}

private func themeProperties(_ palette: Palette) -> String {
  let named: [(String, Color)] = [
    ("page", palette.page), ("surface", palette.surface), ("ink", palette.ink), ("muted", palette.muted),
    ("rule", palette.rule),
  ]
  let lines = (0..<Palette.lineCount).map { ("r\($0)", palette.line($0)) }
  return (named + lines).map { "--\($0):\($1.hex);" }.joined()
}

/// Backgrounds of experts and of ramps, fills of load maps.
private func markColors(_ palette: Palette, _ run: RecordedRun) -> String {
  let experts = expertStyles(run).map {
    ".\($0.name){background:\(palette.expert($0.index, of: $0.count).hex)}"
  }
  let ramp = (0..<Palette.rampCount).map {
    ".q\($0){background:\(palette.ramp($0).hex);color:\(palette.text(onRamp: $0).hex)}"
  }
  let load = (-4...4).map { level in
    let name = level < 0 ? "lm\(-level)" : level == 0 ? "l0" : "lp\(level)"
    let color = palette.load(level).hex
    return ".\(name){fill:\(color);stroke:\(color);background:\(color)}"
  }
  return (experts + ramp + load).joined()
}

private let lineStyles = (0..<Palette.lineCount).map { ".r\($0){stroke:var(--r\($0));color:var(--r\($0))}" }
  .joined()

private let layoutStyle = """
  *{box-sizing:border-box}
  html{-webkit-text-size-adjust:100%;color-scheme:light dark}
  body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,\
  "Noto Sans","DejaVu Sans",sans-serif;font-variant-numeric:tabular-nums}
  header,main,footer{max-width:74rem;margin:0 auto;padding:0 clamp(1rem,4vw,3rem)}
  header{padding-top:clamp(2rem,6vw,4.5rem)}
  h1{font-size:clamp(1.9rem,5vw,3rem);line-height:1.1;letter-spacing:-.02em;margin:.1em 0 .35em;font-weight:650;\
  overflow-wrap:anywhere}
  h2{font-size:1.5rem;line-height:1.2;letter-spacing:-.01em;margin:0 0 .35rem;font-weight:620}
  h3{font-size:1rem;margin:0 0 .75rem;font-weight:620;overflow-wrap:anywhere}
  h3 small{color:var(--muted);font-weight:400;font-size:.875rem;margin-left:.35em}
  p{margin:0 0 1rem;overflow-wrap:anywhere}
  .kicker{color:var(--muted);font-size:.8rem;letter-spacing:.09em;text-transform:uppercase;margin:0}
  .beside{color:var(--muted);margin-top:-.6rem}
  .lead{max-width:46rem;color:var(--muted);margin-bottom:1.5rem}
  header .lead{color:var(--ink);font-size:1.08rem}
  section{padding:2.75rem 0 0;margin:2.75rem 0 0;border-top:1px solid var(--rule)}
  footer{color:var(--muted);font-size:.8rem;padding-top:2rem;padding-bottom:3rem;margin-top:3rem}
  footer p{margin:0 0 .3rem}
  .figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(10rem,1fr));gap:1.5rem clamp(1rem,3vw,2rem);margin:2.25rem 0 0}
  .figures div{border-top:2px solid var(--ink);padding-top:.6rem}
  .figures dt{font-size:.8rem;color:var(--muted)}
  .figures dd{margin:0;font-size:clamp(1.5rem,4vw,1.9rem);line-height:1.25;font-weight:620;letter-spacing:-.02em}
  .figures small{font-size:.875rem;font-weight:400;letter-spacing:0;color:var(--muted)}
  .figures dd.note{font-size:.8rem;font-weight:400;letter-spacing:0;color:var(--muted);line-height:1.4}
  .card{background:var(--surface);border:1px solid var(--rule);border-radius:10px;padding:clamp(1rem,2.5vw,1.5rem);\
  min-width:0}
  .cards{display:grid;gap:1.25rem;grid-template-columns:minmax(0,1fr);align-items:start}
  @media (min-width:60rem){.cards.two{grid-template-columns:repeat(2,minmax(0,1fr))}}
  figure{margin:0}
  figcaption,.bars caption{color:var(--muted);font-size:.8rem;line-height:1.45;text-align:left}
  figcaption{margin-top:.6rem}
  .plot{display:grid;grid-template-columns:2.9rem minmax(0,1fr) 3.3rem;font-size:.75rem;color:var(--muted);\
  line-height:1}
  .plot.tall{margin-top:1.6rem}
  .area{position:relative;height:var(--h);min-width:0}
  .area svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible;display:block}
  .left,.right,.below{position:relative}
  .left span,.right span,.below span{position:absolute;white-space:nowrap}
  .left span{right:.55rem;transform:translateY(50%)}
  .right span{left:.55rem;transform:translateY(50%)}
  .below{grid-column:2;height:1.5rem}
  .below span{top:.55rem;transform:translateX(-50%)}
  .below .end{transform:translateX(-100%)}
  .left .unit{left:0;right:auto}
  .right .unit{right:0;left:auto}
  .tag{position:absolute;transform:translate(-.4rem,0);font-size:.82rem;font-weight:600;white-space:nowrap;\
  max-width:95%;overflow:hidden;text-overflow:ellipsis;text-shadow:0 0 3px var(--surface),0 0 3px var(--surface),\
  0 0 6px var(--surface);padding:.1rem}
  svg path{fill:none;vector-effect:non-scaling-stroke}
  .line{stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
  .raw{stroke-width:1;opacity:.28}
  .thin{stroke-width:1.25;stroke-dasharray:1 4;stroke-linecap:round}
  .dot{stroke-width:7;stroke-linecap:round}
  .grid{stroke:var(--rule);stroke-width:1}
  .goal{stroke:var(--muted);stroke-width:1;stroke-dasharray:4 3}
  .map svg,.map path{shape-rendering:crispEdges}
  .map path{vector-effect:none;stroke-width:1}
  .map rect{stroke:none}
  .hit rect{fill:none;pointer-events:all}
  .strip{margin-top:1.1rem}
  .strip figcaption{margin:0 0 .45rem}
  .strip b{font-weight:600;color:var(--ink)}
  .key{display:flex;flex-wrap:wrap;align-items:center;gap:.35rem .6rem;font-size:.8rem;color:var(--muted);line-height:1.2}
  .key i{font-style:normal}
  .scale{display:inline-flex;align-items:center}
  .scale b{font-weight:400;width:0;position:relative;top:1.05rem;display:inline-flex;justify-content:center;\
  white-space:nowrap;font-size:.7rem}
  #load>.key{margin-bottom:2rem}
  .swatch{display:inline-block;width:1.9rem;height:.85rem}
  #text .swatch{width:1.3rem}
  .chip{border-radius:4px;padding:.2rem .5rem;color:var(--ink);min-width:1.9rem;text-align:center}
  .scroll{overflow-x:auto;margin-top:1rem}
  .scroll:focus-visible,input:focus-visible+label{outline:2px solid var(--r0);outline-offset:2px}
  table{border-collapse:collapse;width:100%;font-size:.85rem}
  .bars caption{caption-side:bottom;padding-top:.7rem}
  th{font-weight:500;text-align:left}
  .numbers th,.numbers td{padding:.5rem .75rem .5rem 0;border-bottom:1px solid var(--rule);white-space:nowrap;\
  text-align:right}
  .numbers th,.numbers td{max-width:16rem;overflow:hidden;text-overflow:ellipsis}
  .numbers th:first-child{text-align:left}
  .numbers thead th{color:var(--muted);font-size:.78rem}
  .numbers .name{font-weight:620}
  .heat{table-layout:fixed;border-collapse:separate;border-spacing:2px;font-size:.8rem}
  .heat th,.heat td{padding:.3rem .1rem;text-align:center;border-radius:3px;overflow:hidden;text-overflow:ellipsis}
  .heat thead th{color:var(--muted);font-size:.72rem;vertical-align:bottom;overflow-wrap:anywhere;line-height:1.15;\
  min-width:2rem}
  .heat .all,.heat .none{color:var(--muted)}
  .bars td,.bars th{padding:.35rem .5rem .35rem 0;text-align:right;white-space:nowrap}
  .bars th{text-align:left}
  .bars .bar{width:50%}
  .bars i{display:block;height:.9rem;background:var(--r0);border-radius:2px;min-width:1px}
  .hidden{position:absolute;clip-path:inset(50%);width:1px;height:1px;overflow:hidden}
  .settings td,.settings th{padding:.35rem 1rem .35rem .6rem;border-bottom:1px solid var(--rule);vertical-align:top;\
  overflow-wrap:anywhere;min-width:6rem}
  .settings thead th{font-weight:620}
  .settings tbody th{color:var(--muted);font-weight:400}
  .settings tr.differs th{box-shadow:inset 3px 0 var(--r1);color:var(--ink)}
  .switch>input{position:absolute;opacity:0}
  .switch>label{display:inline-block;padding:.3rem .8rem;border:1px solid var(--rule);border-radius:99px;\
  margin:0 .3rem .6rem 0;font-size:.85rem;cursor:pointer}
  .switch>input:checked+label{background:var(--ink);color:var(--surface);border-color:var(--ink)}
  .view{display:none}
  .views{border-top:1px solid var(--rule);padding-top:1rem;margin-top:.4rem}
  .label{margin:1.4rem 0 .3rem;font-size:.8rem;color:var(--muted)}
  .passage{font:.9rem/1.85 ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre-wrap;\
  overflow-wrap:anywhere;margin:0;unicode-bidi:plaintext}
  .passage i{font-style:normal;padding:.18em 0}
  .dropped{background:none;box-shadow:inset 0 -2px var(--muted)}
  @media (max-width:34rem){.plot{grid-template-columns:2.2rem minmax(0,1fr) 2.9rem}.left span{right:.35rem}\
  .right span{left:.35rem}.heat{font-size:.72rem;border-spacing:1px}.heat thead th{font-size:.65rem}.swatch{width:1.4rem}\
  .wide{display:none}}
  @media print{body{font-size:10.5pt;background:none}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}\
  .card,figure,tr,.figures{break-inside:avoid}h2,h3{break-after:avoid}section{padding-top:1.2rem;margin-top:1.2rem}\
  .switch>label{display:none}.switch>input:checked+label{display:inline-block}.scroll{overflow:visible}}
  """
