// Draws the most probable next tokens: one row a token, a bar or a dot, probability and logit.  Called by draw.ts.
import { card, press, provenanceLine, segments } from "./card.ts";
import { element } from "./dom.ts";
import { exportMenu } from "./files.ts";
import { listen, stepTo } from "./parts.ts";
import { MAX_ROWS, type NextTokens, type Token } from "./result.ts";
import { logitFigure, probabilityFigure, visibleToken } from "./text.ts";

const METRICS = ["probability", "logit"] as const;
type Metric = (typeof METRICS)[number];

const KEYS: [string, string][] = [
  ["↑↓", "move"],
  ["m", "metric"],
  ["e", "export"],
];

export function drawNextTokens(result: NextTokens): HTMLElement {
  const shown = result.tokens.slice(0, MAX_ROWS);
  const { node, body, controls } = card(result.title, result.provenance, KEYS, footOf(result));

  const table = tokenTable(shown, `${result.title}, ${provenanceLine(result.provenance)}`);
  const legend = element("div", { class: "edif-legend" });
  body.append(table, legend);

  let metric: Metric = "probability";
  const show = (chosen: Metric): void => {
    metric = chosen;
    node.dataset.metric = chosen;
    press(group, chosen);
    legend.replaceChildren(...legendOf(chosen, shown));
  };
  const group = segments("metric", [...METRICS], (name) => show(name as Metric));
  const live = element("div", { class: "edif-live", attributes: { role: "status" } });
  const files = exportMenu(
    node,
    { title: result.title, data: () => ({ ...result.raw, view: { metric } }) },
    (said) => {
      live.textContent = said;
    },
  );
  controls.append(group, files.node);
  body.append(live);
  show(result.metric === "logit" ? "logit" : "probability");
  const next = (): void => show(metric === "probability" ? "logit" : "probability");
  listen(node, { m: next, e: files.open }, (key) => moveRow(table, key));
  return node;
}

function footOf(result: NextTokens): string {
  const left = result.tokens.length - MAX_ROWS;
  if (left <= 0) return result.foot;
  return [`${left} more tokens not drawn`, result.foot].filter((part) => part !== "").join(" · ");
}

function tokenTable(tokens: Token[], label: string): HTMLTableElement {
  const head = element("tr");
  for (const [name, kind] of [
    ["token", "edif-token"],
    ["", "edif-mark"],
    ["probability", "edif-figure"],
    ["logit", "edif-figure"],
  ] as const) {
    const cell = element("th", { class: kind, text: name, attributes: { scope: "col" } });
    if (name === "") cell.setAttribute("aria-hidden", "true");
    else cell.dataset.column = name;
    head.append(cell);
  }
  const rows = element("tbody", {}, ...tokens.map((token, index) => tokenRow(token, index, tokens)));
  return element(
    "table",
    { class: "edif-tokens", attributes: { role: "grid", "aria-readonly": "true", "aria-label": label } },
    element("thead", {}, head),
    rows,
  );
}

function tokenRow(token: Token, index: number, all: Token[]): HTMLTableRowElement {
  const name = element("th", {
    class: "edif-token",
    text: visibleToken(token.text),
    attributes: { scope: "row", title: `token ${token.id}` },
  });
  const mark = element(
    "td",
    {
      class: "edif-mark",
      attributes: { "aria-hidden": "true" },
      style: { "--p": String(token.probability), "--l": String(place(token.logit, logitSpan(all))) },
    },
    element("span", { class: "edif-track" }, element("span", { class: "edif-ink" })),
  );
  // One stop for the tab key; from there the arrow keys move.
  return element(
    "tr",
    { attributes: { tabindex: index === 0 ? "0" : "-1" } },
    name,
    mark,
    figure("probability", probabilityFigure(token.probability)),
    figure("logit", logitFigure(token.logit)),
  );
}

function figure(column: Metric, text: string): HTMLTableCellElement {
  return element("td", { class: "edif-figure", text, attributes: { "data-column": column } });
}

function logitSpan(tokens: Token[]): [number, number] {
  const logits = tokens.map((token) => token.logit);
  return [Math.min(...logits), Math.max(...logits)];
}

/** Where `logit` lies between the lowest and the highest shown one, 0 to 1. */
function place(logit: number, [low, high]: [number, number]): number {
  // Halves keep the difference of two huge numbers finite.
  return high > low ? (logit / 2 - low / 2) / (high / 2 - low / 2) : 1;
}

/** Logits have no natural zero, so they are dots between the lowest and the highest shown, never bars. */
function legendOf(metric: Metric, tokens: Token[]): Node[] {
  const [low, high] = logitSpan(tokens);
  const [from, to, scale] =
    metric === "probability" ? ["0", "1", "edif-scale"] : [logitFigure(low), logitFigure(high), "edif-range"];
  return [
    element("span", { text: from }),
    element("span", { class: scale, attributes: { "aria-hidden": "true" } }),
    element("span", { text: to }),
    element("span", {
      text: metric === "probability" ? "probability of the next token" : "logit, lowest to highest shown",
    }),
  ];
}

/** Moves the focus between rows; says whether `key` was one that moves. */
function moveRow(table: HTMLTableElement, key: string): boolean {
  const rows = [...table.querySelectorAll<HTMLTableRowElement>("tbody tr")];
  const at = rows.indexOf(document.activeElement as HTMLTableRowElement);
  const to = stepTo(key, at, rows.length, ["ArrowUp", "ArrowDown"]);
  const goal = to === undefined ? undefined : rows[to];
  if (goal === undefined) return false;
  for (const row of rows) row.tabIndex = row === goal ? 0 : -1;
  goal.focus();
  return true;
}
