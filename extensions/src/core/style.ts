// How results look.  Installed once a page by draw.ts.
//
// Colours come from JupyterLab's variables where it has them, so a theme change recolours at once; elsewhere from the
// reader's preference.  One sequential blue; its weakest step keeps 3:1 to the ground, all text keeps 4.5:1.

import { scaleRules } from "./scale.ts";

const LIGHT = `
  --edif-ground: var(--jp-layout-color1, #ffffff);
  --edif-quiet: var(--jp-layout-color2, #eef1f5);
  --edif-line: var(--jp-border-color2, #dfe3ea);
  --edif-text: var(--jp-ui-font-color0, #14161a);
  --edif-muted: #5b6270;
  --edif-weak: #6f8fca;
  --edif-strong: #172a63;
  --edif-accent: #2350a9;
  --edif-orange: #b3590f;`;

const DARK = `
  --edif-ground: var(--jp-layout-color1, #181b21);
  --edif-quiet: var(--jp-layout-color2, #262b34);
  --edif-line: var(--jp-border-color2, #323843);
  --edif-text: var(--jp-ui-font-color0, #f2f4f8);
  --edif-muted: #a9b0bd;
  --edif-weak: #4a7cd0;
  --edif-strong: #c4dcff;
  --edif-accent: #6ea8ff;
  --edif-orange: #ff9d3c;`;

export const STYLE = `
.edif-card {${LIGHT}
  box-sizing: border-box;
  max-width: 720px;
  margin: 4px 0;
  padding: 16px;
  border: 1px solid var(--edif-line);
  border-radius: 6px;
  background: var(--edif-ground);
  color: var(--edif-text);
  font: 13px/1.5 system-ui, sans-serif;
  print-color-adjust: exact;
}
[data-jp-theme-light="false"] .edif-card {${DARK}}
${scaleRules("light", ".edif-card")}
${scaleRules("dark", '[data-jp-theme-light="false"] .edif-card')}
@media (prefers-color-scheme: dark) {
body:not([data-jp-theme-light]) .edif-card {${DARK}}
${scaleRules("dark", "body:not([data-jp-theme-light]) .edif-card")}
}
.edif-card :is(header, footer, aside, dl, dt, dd, ul, li, caption, table, tr, th, td, p, pre, button, kbd, summary) {
  margin: 0; padding: 0; border: 0; background: none; color: inherit; font: inherit; text-align: left;
}
.edif-card .edif-head { display: flex; flex-wrap: wrap; gap: 8px; justify-content: space-between; align-items: flex-start; }
.edif-card .edif-names { flex: 1 1 240px; min-width: 0; overflow-wrap: anywhere; }
.edif-card .edif-title { font-weight: 600; font-size: 14px; }
.edif-card .edif-provenance { color: var(--edif-muted); font-size: 12px; }
.edif-card .edif-segments { display: inline-flex; border: 1px solid var(--edif-line); border-radius: 4px; overflow: hidden; }
.edif-card .edif-segments button { padding: 2px 8px; font-size: 12px; color: var(--edif-muted); cursor: pointer; }
.edif-card .edif-segments button + button { border-left: 1px solid var(--edif-line); }
.edif-card .edif-segments button[aria-pressed="true"] { background: var(--edif-quiet); color: var(--edif-text); }
.edif-card :focus-visible { outline: 2px solid var(--edif-accent); outline-offset: -2px; }
.edif-card.edif-job { max-width: 1080px; padding: 6px 16px; }
.edif-card.edif-job[hidden], .edif-folded { display: none; }
.edif-card .edif-line { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center; min-height: 26px; }
.edif-card .edif-doing { color: var(--edif-muted); overflow-wrap: anywhere; }
.edif-card .edif-left { margin-left: auto; color: var(--edif-muted); font-variant-numeric: tabular-nums; }
.edif-card .edif-dot { width: 8px; height: 8px; border-radius: 50%; background: var(--edif-accent); }
.edif-job:is([data-state="COMPLETED"], [data-state="CANCELLED"]) .edif-dot { background: var(--edif-muted); }
.edif-job[data-state="ERROR"] .edif-dot { background: var(--edif-orange); border-radius: 0; }
.edif-job:is([data-state="QUEUED"], [data-state="PROVISIONING"], [data-state="RECEIVED"]) .edif-dot { background: none; box-shadow: inset 0 0 0 2px var(--edif-accent); }
.edif-card .edif-progress { flex: 1 1 120px; height: 5px; border-radius: 3px; background: var(--edif-quiet); overflow: hidden; }
.edif-card .edif-progress span { display: block; height: 100%; background: var(--edif-accent); }
.edif-card .edif-error { margin: 4px 0 6px; padding-left: 20px; }
.edif-card .edif-error code { font: 12px/20px var(--jp-code-font-family, ui-monospace, monospace); color: var(--edif-text); background: none; }
.edif-card .edif-log { margin: 0 0 6px 20px; font-size: 12px; }
.edif-card .edif-log pre { max-height: 160px; }
.edif-job .edif-partial { padding: 0; border: 0; }
@media (prefers-reduced-motion: no-preference) {
  .edif-job .edif-new { animation: edif-tile 120ms; }
}
@keyframes edif-tile { from { opacity: 0; } }
.edif-card .edif-act { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 12px; }
.edif-card .edif-draggable td[data-column] { cursor: grab; user-select: none; }
.edif-card .edif-carrying td[data-column] { cursor: grabbing; }
.edif-card .edif-carrying td[data-column]:hover { outline-color: var(--edif-orange); }
.edif-card .edif-button { padding: 2px 8px; border: 1px solid var(--edif-line); border-radius: 4px; font-size: 12px; color: var(--edif-muted); cursor: pointer; }
.edif-card .edif-button:hover { color: var(--edif-text); background: var(--edif-quiet); }
.edif-card .edif-export { position: relative; }
.edif-card .edif-menu { position: absolute; right: 0; top: 100%; margin-top: 2px; z-index: 4; display: flex; flex-direction: column; background: var(--edif-ground); border: 1px solid var(--edif-line); border-radius: 4px; }
.edif-card .edif-menu button { padding: 4px 16px; font-size: 12px; cursor: pointer; }
.edif-card .edif-menu button:is(:hover, :focus) { background: var(--edif-quiet); }
.edif-card.edif-whole { width: max-content; max-width: none; min-width: 480px; }
.edif-card.edif-whole :is(.edif-scroll, .edif-words, .edif-heads, .edif-prompt) { max-height: none; overflow: visible; }
.edif-card.edif-whole :is(.edif-controls, .edif-key, .edif-act, .edif-foot .edif-button) { display: none; }
.edif-card.edif-whole :is(.edif-names, .edif-panel) { max-width: 720px; }
.edif-card .edif-body { margin: 8px 0; overflow-x: auto; }
.edif-card .edif-tokens { width: 100%; border-collapse: collapse; table-layout: auto; font-size: 12px; }
.edif-card .edif-tokens thead th { vertical-align: bottom; color: var(--edif-muted); }
.edif-card .edif-tokens tbody tr { height: 24px; background: none; }
.edif-card .edif-tokens tbody tr:is(:hover, :focus) { background: var(--edif-quiet); }
.edif-card .edif-tokens .edif-token { padding: 0 16px 0 4px; max-width: 320px; overflow-wrap: anywhere; }
.edif-card .edif-tokens tbody .edif-token {
  font-family: var(--jp-code-font-family, ui-monospace, monospace); unicode-bidi: plaintext; white-space: pre-wrap;
}
.edif-card .edif-tokens tbody tr:first-child .edif-token { font-weight: 700; }
.edif-card .edif-tokens .edif-mark { width: 60%; min-width: 80px; padding: 0 8px 0 0; }
.edif-card .edif-tokens .edif-figure {
  padding: 0 4px 0 12px; text-align: right; white-space: nowrap; color: var(--edif-muted); font-variant-numeric: tabular-nums;
}
.edif-card[data-metric="probability"] [data-column="probability"],
.edif-card[data-metric="logit"] [data-column="logit"] { color: var(--edif-text); }
.edif-card .edif-track { display: block; position: relative; height: 6px; }
.edif-card .edif-ink { position: absolute; height: 6px; border-radius: 3px; }
.edif-card[data-metric="probability"] .edif-ink {
  left: 0; width: max(2px, calc(var(--p) * 100%));
  background: color-mix(in oklab, var(--edif-strong) calc(var(--p) * 100%), var(--edif-weak));
}
.edif-card[data-metric="logit"] .edif-track::before {
  content: ""; position: absolute; left: 0; right: 0; top: 2.5px; height: 1px; background: var(--edif-line);
}
.edif-card[data-metric="logit"] .edif-ink { left: calc(var(--l) * (100% - 6px)); width: 6px; background: var(--edif-accent); }
.edif-card .edif-legend { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; margin-top: 8px; font-size: 11px; color: var(--edif-muted); }
.edif-card .edif-meaning + span { margin-left: 14px; }
.edif-card .edif-scale { width: 96px; height: 6px; border-radius: 3px; background: linear-gradient(in oklab to right, var(--edif-weak), var(--edif-strong)); }
.edif-card .edif-range { width: 96px; height: 1px; background: var(--edif-muted); }
.edif-card .edif-foot {
  display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 12px; padding-top: 8px; border-top: 1px solid var(--edif-line);
  font-size: 11px; color: var(--edif-muted); overflow-wrap: anywhere;
}
.edif-card kbd { padding: 0 4px; font-family: inherit; border: 1px solid var(--edif-line); border-radius: 3px; font-size: 10px; }
.edif-card summary { color: var(--edif-muted); cursor: pointer; }
.edif-card pre { max-height: 320px; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; font: 12px/1.4 var(--jp-code-font-family, ui-monospace, monospace); }
.edif-problem p { margin-bottom: 8px; }
.edif-card.edif-wide { max-width: 1080px; }
.edif-card.edif-wide .edif-names { flex-basis: 420px; }
.edif-card [hidden] { display: none !important; }
.edif-card .edif-controls { display: flex; flex-wrap: wrap; gap: 8px; justify-content: flex-end; }
.edif-card .edif-choice {
  max-width: 240px; padding: 2px 4px; border: 1px solid var(--edif-line); border-radius: 4px; background: var(--edif-ground); color: var(--edif-text); font: inherit; font-size: 12px;
}
.edif-card .edif-split { display: flex; flex-wrap: wrap; gap: 16px; overflow: visible; }
.edif-card .edif-main { flex: 1 1 420px; min-width: 0; }
.edif-card .edif-scroll, .edif-card .edif-words { overflow: auto; max-height: 640px; padding: 0 2px 2px 0; }
.edif-card .edif-words { flex: 1 1 100%; }
.edif-card .edif-panel { flex: 0 0 248px; min-height: 400px; padding-left: 16px; border-left: 1px solid var(--edif-line); font-size: 12px; }
.edif-card .edif-main:has(.edif-map) + .edif-panel { min-height: 232px; }
.edif-card .edif-grid { width: max-content; min-width: 100%; border-collapse: separate; border-spacing: 1px; font: 12px/20px var(--jp-code-font-family, ui-monospace, monospace); }
.edif-card .edif-grid :is(th, td) { text-align: center; white-space: pre; }
.edif-card .edif-grid tr, .edif-card .edif-grid tr:is(:hover, :nth-child(even)) { background: none; }
.edif-card .edif-grid th { color: var(--edif-muted); font-weight: 400; unicode-bidi: plaintext; }
.edif-card .edif-grid thead { position: sticky; top: 0; background: var(--edif-ground); z-index: 2; }
.edif-card .edif-grid thead th { padding: 0 6px; }
.edif-card .edif-grid .edif-layer {
  width: 1px; padding: 0 8px 0 0; position: sticky; left: 0; background: var(--edif-ground); text-align: right; font-family: system-ui, sans-serif; font-size: 11px; z-index: 1;
}
.edif-card .edif-grid td[data-column] { padding: 0 6px; border-radius: 2px; cursor: default; unicode-bidi: plaintext; }
.edif-card .edif-grid td[data-step=""] { color: var(--edif-text); background: repeating-linear-gradient(135deg, var(--edif-line) 0 1px, transparent 1px 5px); }
.edif-card .edif-grid .edif-final { font-weight: 700; }
.edif-card .edif-grid :is(.edif-pinned, .edif-taken) { box-shadow: inset 0 0 0 2px var(--edif-orange); }
.edif-card .edif-grid th[data-head] { cursor: pointer; }
.edif-card .edif-grid th.edif-pinned { color: var(--edif-orange); font-weight: 700; }
.edif-card .edif-grid td[data-column]:is(:hover, :focus-visible) { outline: 2px solid var(--edif-accent); outline-offset: 0; }
.edif-card .edif-main:has(.edif-map) { flex: 0 1 auto; }
.edif-card .edif-map { width: auto; min-width: 0; margin-right: 32px; }
.edif-card .edif-map td[data-column] { width: 26px; min-width: 26px; height: 11px; padding: 0; line-height: 0; }
.edif-card .edif-map thead .edif-column { position: relative; padding: 0; vertical-align: bottom; }
.edif-card .edif-map thead .edif-column span {
  position: absolute; left: 13px; bottom: 2px; unicode-bidi: plaintext; transform: rotate(-45deg); transform-origin: left bottom; line-height: 12px;
}
.edif-card .edif-map thead .edif-layer { vertical-align: bottom; }
.edif-card .edif-map tbody .edif-layer { line-height: 0; height: 11px; overflow: visible; }
.edif-card .edif-map .edif-quiet { color: transparent; }
.edif-card .edif-map .edif-marked { color: var(--edif-orange); font-weight: 700; }
.edif-card .edif-fold td { font: 11px/13px system-ui, sans-serif; color: var(--edif-muted); }
.edif-card .edif-fold :is(.edif-band, .edif-gap) { background: var(--edif-quiet); border-radius: 2px; }
.edif-card .edif-fold .edif-band { cursor: pointer; }
.edif-card .edif-fold .edif-band:hover { color: var(--edif-text); }
.edif-card .edif-steps { display: inline-flex; width: 128px; height: 8px; border-radius: 2px; overflow: hidden; }
.edif-card .edif-steps span { flex: 1; }
.edif-card .edif-chip { padding: 0 6px; border: 1px solid var(--edif-orange); border-radius: 3px; color: var(--edif-text); cursor: pointer; }
.edif-card .edif-heading { margin: 12px 0 4px; font-weight: 600; overflow-wrap: anywhere; }
.edif-card .edif-heading:first-child { margin-top: 0; }
.edif-card .edif-bars { list-style: none; }
.edif-card .edif-bars li { display: grid; grid-template-columns: minmax(72px, auto) 1fr auto; gap: 8px; align-items: center; }
.edif-card .edif-word { font: 12px/20px var(--jp-code-font-family, ui-monospace, monospace); overflow-wrap: anywhere; unicode-bidi: plaintext; }
.edif-card .edif-bar span { display: block; min-width: 2px; height: 5px; border-radius: 3px; background: var(--edif-accent); }
.edif-card .edif-number { color: var(--edif-muted); font-variant-numeric: tabular-nums; }
.edif-card .edif-pairs { display: grid; grid-template-columns: 1fr auto; gap: 0 12px; margin-top: 4px; }
.edif-card .edif-pairs :is(dt, dd) { float: none; width: auto; display: block; }
.edif-card .edif-pairs dt { color: var(--edif-muted); overflow-wrap: anywhere; }
.edif-card .edif-pairs dd { text-align: right; font-variant-numeric: tabular-nums; }
.edif-card .edif-note { margin-top: 4px; color: var(--edif-muted); font-size: 11px; }
.edif-card :is(figure, figcaption) { margin: 0; padding: 0; }
.edif-card .edif-panel svg { display: block; max-width: 100%; overflow: visible; }
.edif-card .edif-panel svg text { font: 10px system-ui, sans-serif; fill: var(--edif-muted); }
.edif-card .edif-axis { stroke: var(--edif-line); fill: none; }
.edif-card .edif-most { stroke: var(--edif-line); stroke-dasharray: 2 2; fill: none; }
.edif-card .edif-path { fill: none; stroke-width: 1.5; }
.edif-card path.edif-blue { stroke: var(--edif-accent); }
.edif-card path.edif-orange { stroke: var(--edif-orange); }
.edif-card path.edif-muted { stroke: var(--edif-muted); }
.edif-card path.edif-dashed { stroke-dasharray: 4 3; }
.edif-card path.edif-band-of { stroke: none; fill-opacity: 0.22; }
.edif-card path.edif-band-of.edif-blue { fill: var(--edif-accent); }
.edif-card path.edif-band-of.edif-orange { fill: var(--edif-orange); }
.edif-card path.edif-band-of.edif-muted { fill: var(--edif-muted); }
.edif-card .edif-lines { display: flex; flex-wrap: wrap; gap: 2px 12px; color: var(--edif-muted); font-size: 11px; }
.edif-card .edif-lines > span { display: inline-flex; gap: 4px; align-items: center; }
.edif-card circle.edif-blue { fill: var(--edif-accent); }
.edif-card circle.edif-orange { fill: var(--edif-orange); }
.edif-card circle.edif-muted { fill: var(--edif-muted); }
.edif-card .edif-warning { padding-left: 8px; border-left: 2px solid var(--edif-orange); color: var(--edif-text); }
.edif-card .edif-said { font: 12px/18px var(--jp-code-font-family, ui-monospace, monospace); overflow-wrap: anywhere; unicode-bidi: plaintext; }
.edif-several .edif-side { display: flex; flex-wrap: wrap; gap: 0 8px; max-width: 2168px; align-items: flex-start; }
.edif-several .edif-side > .edif-card { flex: 1 1 460px; min-width: 0; }
.edif-several .edif-half .edif-panel { flex: 1 1 248px; min-height: 0; }
.edif-card.edif-sliders { display: flex; flex-wrap: wrap; gap: 8px 32px; max-width: 1080px; padding: 8px 16px; }
.edif-card .edif-slider { display: inline-flex; flex-wrap: wrap; gap: 8px; align-items: center; margin: 0; color: var(--edif-text); font-size: 12px; }
.edif-card .edif-setting { min-width: 88px; font-variant-numeric: tabular-nums; }
.edif-card .edif-slider input { width: 160px; accent-color: var(--edif-accent); }
.edif-card .edif-plain { border-collapse: collapse; font-size: 12px; }
.edif-card .edif-plain :is(th, td) { padding: 2px 12px 2px 0; white-space: pre; border-bottom: 1px solid var(--edif-line); font-variant-numeric: tabular-nums; }
.edif-card .edif-plain th { color: var(--edif-muted); }
.edif-card .edif-plain caption { padding-bottom: 4px; color: var(--edif-muted); }
.edif-card .edif-live { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.edif-card .edif-heads { display: flex; flex-wrap: wrap; gap: 6px; max-height: 132px; overflow: auto; margin-bottom: 12px; }
.edif-card .edif-heads button { font-size: 11px; color: var(--edif-muted); cursor: pointer; padding: 2px; border-radius: 3px; }
.edif-card .edif-thumb { display: flex; flex-direction: column; align-items: center; line-height: 14px; }
.edif-card .edif-thumb[aria-pressed="true"] { background: var(--edif-quiet); color: var(--edif-text); box-shadow: inset 0 0 0 2px var(--edif-accent); }
.edif-card .edif-heat { display: block; image-rendering: pixelated; background: var(--edif-quiet); }
.edif-card .edif-beside { display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start; }
.edif-card .edif-prompt { flex: 1 1 200px; max-height: 360px; overflow: auto; line-height: 24px; }
.edif-card .edif-piece {
  display: inline-block; margin: 1px; padding: 0 4px; line-height: 20px; border-radius: 2px; cursor: pointer; unicode-bidi: plaintext; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 12px/20px var(--jp-code-font-family, ui-monospace, monospace);
}
.edif-card .edif-piece[data-step=""] { color: var(--edif-muted); }
.edif-card .edif-piece[aria-selected="true"] { box-shadow: 0 0 0 2px var(--edif-orange); }
@media print { .edif-card { break-inside: avoid; } .edif-card .edif-segments { display: none; } }
`;
