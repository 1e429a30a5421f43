// Parts that the views of grids share: legend, side panel, table, and the keys and words around them.  Called by them.
import { type Card, segments } from "./card.ts";
import { element } from "./dom.ts";
import { exportMenu, type FileOf } from "./files.ts";
import { sequential, share } from "./scale.ts";

/** What a view shows in the middle of its card: a grid, or what takes its place. */
export interface Middle {
  node: HTMLElement;
  focus: () => void;
  /** Does what a key asks for; says whether it was one of its own. */
  key: (key: string) => boolean;
}

/** A view that is a grid beside a panel, and the same as a table. */
export interface Frame {
  panel: HTMLElement;
  legend: HTMLElement;
  /** Tells a screen reader what has changed. */
  say: (words: string) => void;
  /** Shows the middle as it is now. */
  place: () => void;
}

/** What the card's `t` shows instead of the drawing: made when it is asked for, so that it is never out of date. */
export type MakeTable = () => HTMLTableElement;

/** What a view gives to be arranged; `keys` are those of its own. */
export interface View {
  middle: () => Middle;
  table: MakeTable;
  keys: Record<string, () => void>;
  file: FileOf;
}

/** Puts grid, legend, panel, table and files into a card, and its keys to work. */
export function arrange({ node, body, controls }: Card, { middle: grid, table, keys, file }: View): Frame {
  const panel = element("aside", { class: "edif-panel", attributes: { "aria-label": "details" } });
  const legend = element("div", { class: "edif-legend" });
  const live = element("div", { class: "edif-live", attributes: { role: "status" } });
  const scroll = element("div", { class: "edif-scroll" });
  const words = element("div", { class: "edif-words", attributes: { tabindex: "-1" } });
  const main = element("div", { class: "edif-main" }, scroll, legend);
  words.hidden = true;
  body.classList.add("edif-split");
  body.append(main, panel, words, live);
  node.classList.add("edif-wide");

  keepHeight(panel);

  const toggle = (): void => {
    words.hidden = !words.hidden;
    main.hidden = panel.hidden = !words.hidden;
    button.setAttribute("aria-pressed", String(!words.hidden));
    if (!words.hidden) words.replaceChildren(table());
    if (words.hidden) grid().focus();
    else words.focus();
  };
  const tables = segments("form", ["Table"], toggle);
  const button = tables.firstElementChild as HTMLElement;
  button.setAttribute("aria-pressed", "false");
  const say = (said: string): void => {
    live.textContent = said;
  };
  const files = exportMenu(node, file, say);
  controls.append(tables, files.node);

  const place = (): void => {
    // Put in anew, a grid would lose the keyboard.
    if (scroll.firstChild !== grid().node) scroll.replaceChildren(grid().node);
    if (!words.hidden) words.replaceChildren(table());
  };
  listen(node, { ...keys, t: toggle, e: files.open }, (key) => grid().key(key));
  return { panel, legend, say, place };
}

/** Lets a panel grow with what it says and never shrink, as long as it is as wide: nothing below may move at each hover. */
function keepHeight(panel: HTMLElement): void {
  if (typeof ResizeObserver === "undefined") return; // a page without layout
  let [wide, most] = [0, 0];
  const watch = new ResizeObserver(() => {
    const { width, height } = panel.getBoundingClientRect();
    const same = Math.abs(width - wide) < 1;
    if (same && height <= most) return;
    if (!same) panel.style.minHeight = "";
    most = same ? height : panel.getBoundingClientRect().height;
    wide = width;
    panel.style.minHeight = `${most}px`;
  });
  watch.observe(panel);
}

/** Puts keys to work on a card: those with a deed of their own, then what `others` takes. */
export function listen(
  node: HTMLElement,
  keys: Record<string, () => void>,
  others: (key: string) => boolean,
): void {
  node.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isField(event.target)) return;
    const own = Object.hasOwn(keys, event.key) ? keys[event.key] : undefined;
    own?.();
    // A notebook has shortcuts of its own: there `m` would turn the cell into Markdown.
    if (own !== undefined || others(event.key)) {
      event.preventDefault();
      event.stopPropagation();
    }
  });
}

/** Whether letters typed here belong to a field. */
function isField(target: EventTarget | null): boolean {
  return target instanceof HTMLSelectElement || target instanceof HTMLInputElement;
}

/** Where a key leads among `count` places in a line; undefined where it is no key that moves along it. */
export function stepTo(
  key: string,
  at: number,
  count: number,
  [back, forth]: [string, string],
): number | undefined {
  const goals: Record<string, number> = { [back]: at - 1, [forth]: at + 1, Home: 0, End: count - 1 };
  if (!Object.hasOwn(goals, key)) return undefined;
  return Math.min(count - 1, Math.max(0, goals[key] as number));
}

/** A scale from its steps, between two figures, and what it means. */
export function legendOf(steps: string[], from: string, to: string, meaning: string): Node[] {
  const some = steps.filter((_, n) => n % 2 === 0 || n === steps.length - 1);
  const colours = some.map((step) => element("span", { attributes: { "data-step": step } }));
  return [
    element("span", { text: from }),
    element("span", { class: "edif-steps", attributes: { "aria-hidden": "true" } }, ...colours),
    element("span", { text: to }),
    element("span", { class: "edif-meaning", text: meaning }),
  ];
}

/** A heading of the panel. */
export function heading(text: string): HTMLElement {
  return element("div", { class: "edif-heading", text });
}

/** Names and figures, one pair a line. */
export function pairs(entries: [string, string][]): HTMLElement {
  return element(
    "dl",
    { class: "edif-pairs" },
    ...entries.flatMap(([name, figure]) => [element("dt", { text: name }), element("dd", { text: figure })]),
  );
}

/** Tokens with a bar for their probability each. */
export function bars(entries: { text: string; part: number; figure: string }[]): HTMLElement {
  const lines = entries.map(({ text, part, figure }) =>
    element(
      "li",
      {},
      element("span", { class: "edif-word", text }),
      element(
        "span",
        { class: "edif-bar", attributes: { "aria-hidden": "true" } },
        element("span", { style: { width: `${share(part, 0, 1) * 100}%` } }),
      ),
      element("span", { class: "edif-number", text: figure }),
    ),
  );
  return element("ul", { class: "edif-bars" }, ...lines);
}

/** A table with heads for columns and rows; its first column names the rows. */
export function plainTable(caption: string, head: string[], rows: string[][]): HTMLTableElement {
  const heads = head.map((text) => element("th", { text, attributes: { scope: "col" } }));
  const lines = rows.map(([name, ...cells]) =>
    element(
      "tr",
      {},
      element("th", { text: name ?? "", attributes: { scope: "row" } }),
      ...cells.map((text) => element("td", { text })),
    ),
  );
  return element(
    "table",
    { class: "edif-plain" },
    element("caption", { text: caption }),
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...lines),
  );
}

/** A choice among many, as a list that opens; `choose` hears the number of the one that was chosen. */
export function choice(label: string, names: string[], choose: (at: number) => void): HTMLSelectElement {
  const options = names.map((text, n) => element("option", { text, attributes: { value: String(n) } }));
  const node = element("select", { class: "edif-choice", attributes: { "aria-label": label } }, ...options);
  node.addEventListener("change", () => choose(node.selectedIndex));
  return node;
}

/** The sequential step of `value` between `low` and `high`; empty where it is not known. */
export function stepOf(value: number, low: number, high: number): string {
  return Number.isNaN(value) ? "" : sequential(share(value, low, high));
}
