// How results look.  Installed once a page by draw.ts.
//
// Colours come from JupyterLab's variables where it has them, so a theme change recolours at once; elsewhere from the
// reader's preference.  One sequential blue; its weakest step keeps 3:1 to the ground, all text keeps 4.5:1.

const LIGHT = `
  --edif-ground: var(--jp-layout-color1, #ffffff);
  --edif-quiet: var(--jp-layout-color2, #eef1f5);
  --edif-line: var(--jp-border-color2, #dfe3ea);
  --edif-text: var(--jp-ui-font-color0, #14161a);
  --edif-muted: #5b6270;
  --edif-weak: #6f8fca;
  --edif-strong: #172a63;
  --edif-accent: #2350a9;`;

const DARK = `
  --edif-ground: var(--jp-layout-color1, #181b21);
  --edif-quiet: var(--jp-layout-color2, #262b34);
  --edif-line: var(--jp-border-color2, #323843);
  --edif-text: var(--jp-ui-font-color0, #f2f4f8);
  --edif-muted: #a9b0bd;
  --edif-weak: #4a7cd0;
  --edif-strong: #c4dcff;
  --edif-accent: #6ea8ff;`;

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
@media (prefers-color-scheme: dark) { body:not([data-jp-theme-light]) .edif-card {${DARK}} }
.edif-card :is(header, footer, table, tr, th, td, p, pre, button, kbd, summary) {
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
.edif-card .edif-body { margin: 8px 0; overflow-x: auto; }
.edif-card .edif-tokens { width: 100%; border-collapse: collapse; table-layout: auto; font-size: 12px; }
.edif-card .edif-tokens thead th { vertical-align: bottom; color: var(--edif-muted); }
.edif-card .edif-tokens tbody tr { height: 24px; background: none; }
.edif-card .edif-tokens tbody tr:is(:hover, :focus) { background: var(--edif-quiet); }
.edif-card .edif-tokens .edif-token { padding: 0 16px 0 4px; max-width: 320px; overflow-wrap: anywhere; }
.edif-card .edif-tokens tbody .edif-token {
  font-family: var(--jp-code-font-family, ui-monospace, monospace); unicode-bidi: isolate; white-space: pre-wrap;
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
.edif-card .edif-scale { width: 96px; height: 6px; border-radius: 3px; background: linear-gradient(in oklab to right, var(--edif-weak), var(--edif-strong)); }
.edif-card .edif-range { width: 96px; height: 1px; background: var(--edif-muted); }
.edif-card .edif-foot {
  display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 12px; padding-top: 8px; border-top: 1px solid var(--edif-line);
  font-size: 11px; color: var(--edif-muted); overflow-wrap: anywhere;
}
.edif-card kbd { padding: 0 4px; border: 1px solid var(--edif-line); border-radius: 3px; font-size: 10px; }
.edif-card summary { color: var(--edif-muted); cursor: pointer; }
.edif-card pre { max-height: 320px; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; font: 12px/1.4 var(--jp-code-font-family, ui-monospace, monospace); }
.edif-problem p { margin-bottom: 8px; }
@media print { .edif-card { break-inside: avoid; } .edif-card .edif-segments { display: none; } }
`;
