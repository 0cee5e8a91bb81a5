"""The look of report.html: one sheet, light and dark, from a phone's width to paper.

No fonts, pictures or scripts from elsewhere.
"""

STYLE = """
:root { color-scheme: light dark; --paper: #fdfcf9; --card: #ffffff; --ink: #1d2127; --soft: #5c6470; --faint: #e6e3da;
  --accent: #0b6e69; --wash: #d5e8e5; --second: #b4630c; --good: #26734d; --bad: #ab3428;
  --serif: ui-serif, Charter, "Bitstream Charter", "Iowan Old Style", Cambria, Georgia, serif;
  --sans: ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", Menlo, monospace; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --card: #1b1f23; --ink: #e6e4de; --soft: #9aa2ac;
  --faint: #30363c;
  --accent: #58c0b6; --wash: #1f4744; --second: #e59b4a; --good: #6cc795; --bad: #ee8478; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1.0625rem/1.6 var(--serif); font-kerning: normal;
  text-rendering: optimizeLegibility; }
main { max-width: 47rem; margin: 0 auto; padding: clamp(1.5rem, 6vw, 4rem) clamp(1rem, 4vw, 2rem) 5rem; }
h1 { font-size: clamp(2.1rem, 7vw, 3rem); line-height: 1.1; letter-spacing: -0.02em; margin: 0 0 0.6rem; font-weight:
  600; }
h2 { font-size: 1.45rem; line-height: 1.25; letter-spacing: -0.01em; margin: 3.6rem 0 0.5rem; font-weight: 600; }
h3 { font: 600 0.8rem/1.4 var(--sans); letter-spacing: 0.01em; color: var(--soft); margin: 2rem 0 0.5rem; }
p { margin: 0 0 1rem; max-width: 40rem; text-wrap: pretty; hanging-punctuation: first; }
.lead { font-size: 1.2rem; line-height: 1.5; color: var(--soft); }
.kicker, small, figcaption, .bar-label, .bar-value, th, .tile span, summary, .who, .badge { font-family: var(--sans); }
.kicker { color: var(--accent); font-size: 0.85rem; font-weight: 600; margin: 0 0 0.7rem; }
small, figcaption { color: var(--soft); font-size: 0.8rem; }
figure { margin: 1.2rem 0 0; }
figcaption { margin-top: 0.5rem; line-height: 1.5; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.6rem, 1fr)); gap: 0.8rem; margin: 2rem 0 0;
  padding: 0; list-style: none; }
.tile { background: var(--card); border: 1px solid var(--faint); border-radius: 0.6rem; padding: 0.8rem 0.9rem
  0.75rem; }
.tile b { display: block; font: 600 1.6rem/1.15 var(--serif); font-variant-numeric: lining-nums tabular-nums;
  letter-spacing: -0.01em; }
.tile span { display: block; color: var(--soft); font-size: 0.8rem; line-height: 1.35; margin-top: 0.25rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: lining-nums tabular-nums; font-size: 0.97rem; }
th { text-align: left; font-size: 0.78rem; font-weight: 600; color: var(--soft); padding: 0.35rem 0.9rem 0.35rem 0;
  border-bottom: 1px solid var(--ink); vertical-align: bottom; }
td { padding: 0.5rem 0.9rem 0.5rem 0; border-bottom: 1px solid var(--faint); vertical-align: top; line-height: 1.4; }
td small { display: block; }
th.n, td.n { text-align: right; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
td.n small { display: inline; } td.main { font-weight: 650; }
.up { color: var(--good); } .down { color: var(--bad); }
.bars { list-style: none; margin: 1rem 0 0; padding: 0; font-variant-numeric: lining-nums tabular-nums; }
.bars li { display: grid; grid-template-columns: minmax(7.5rem, 1fr) minmax(0, 2.4fr) minmax(7rem, auto); gap: 0
  0.9rem; align-items: center; padding: 0.26rem 0; }
.bar-label { font-size: 0.88rem; line-height: 1.3; overflow-wrap: anywhere; }
.bar-value { font-size: 0.88rem; text-align: right; white-space: nowrap; }
.bar-track { position: relative; height: 0.72rem; border-radius: 0.2rem; background: var(--faint); }
.fill { position: absolute; inset: 0 auto 0 0; background: var(--accent); border-radius: 0.2rem; }
.error { position: absolute; top: 50%; height: 0; border-top: 2px solid var(--ink); opacity: 0.65; }
.error::before, .error::after { content: ""; position: absolute; top: -4px; height: 6px; border-left: 2px solid
  var(--ink); }
.error::before { left: 0; } .error::after { right: 0; }
.mark { position: absolute; top: -0.22rem; bottom: -0.22rem; border-left: 3px solid var(--second); transform:
  translateX(-1.5px); }
.lost .fill { background: var(--second); opacity: 0.75; }
.lost { margin: 0 0 1rem; padding-left: 1rem; }
.lost .bar-label, .lost .bar-value { color: var(--soft); font-size: 0.82rem; }
.chart { display: block; width: 100%; height: auto; overflow: visible; }
.chart .grid { stroke: var(--faint); stroke-width: 1; }
.chart text { font-family: var(--sans); font-size: 13px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.chart .line { fill: none; stroke-linejoin: round; stroke-linecap: round; vector-effect: non-scaling-stroke; }
.raw { stroke: var(--accent); stroke-width: 1; opacity: 0.3; } .smooth { stroke: var(--accent); stroke-width: 2.2; }
.held-out { stroke: var(--second); stroke-width: 2.2; }
.key { display: inline-block; width: 1.1rem; height: 0; border-top: 3px solid; vertical-align: 0.25em; margin-right:
  0.35rem; }
.key.smooth { border-color: var(--accent); } .key.held-out, .key.champion { border-color: var(--second); }
.talk { background: var(--card); border: 1px solid var(--faint); border-radius: 0.6rem; padding: 0.9rem 1.1rem;
  margin: 0.9rem 0 0; }
.talk header { display: flex; justify-content: space-between; gap: 1rem; margin-bottom: 0.3rem; }
.turn { margin: 0.55rem 0 0; padding-left: 0.8rem; border-left: 2px solid var(--faint); white-space: pre-wrap;
  overflow-wrap: anywhere; line-height: 1.45; font-size: 0.97rem; }
.turn.tool, .turn.call { font: 0.82rem/1.5 var(--mono); color: var(--soft); }
.turn.answer { border-color: var(--accent); }
.who { display: block; font-size: 0.75rem; color: var(--soft); }
.badge { font-size: 0.78rem; font-weight: 600; white-space: nowrap; } .badge.right { color: var(--good); }
  .badge.wrong { color: var(--bad); }
details { margin-top: 0.8rem; } summary { cursor: pointer; font-size: 0.92rem; padding: 0.3rem 0; }
details table { font: 0.8rem/1.4 var(--mono); } details td { padding: 0.22rem 0.9rem 0.22rem 0; overflow-wrap:
  anywhere; }
a { color: var(--accent); } :focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
@media (max-width: 34rem) { .bars li { grid-template-columns: 1fr auto; padding: 0.4rem 0; } .bar-track {
  grid-column: 1 / -1; grid-row: 2; margin-top: 0.2rem; }
  .tile:last-child:nth-child(odd) { grid-column: 1 / -1; }
    .tile:last-child:nth-child(odd) { grid-column: 1 / -1; } .lost { padding-left: 0.6rem; } .chart text { font-size:
  22px; } .hide-small { display: none; } td, th {
  padding-right: 0.6rem; } }
@media print { main { max-width: none; padding: 0; } .talk, .tile, figure { break-inside: avoid; }
  details:not([open]) { display: none; } }
"""
