// A grid of layers × columns that is read with the mouse, the keyboard and a screen reader alike: one stop for the tab
// key, arrow keys within, Enter picks.  Called by the lens and the maps.
import { element } from "./dom.ts";

export interface Cell {
  text: string;
  /** A step of a colour scale; empty for what is not known, which is hatched. */
  step: string;
  /** What a screen reader says. */
  label: string;
  bold?: boolean;
  pinned?: boolean;
}

/** A layer, by its place in the result; or a thin band for layers that are not shown, which may be opened. */
export type Row = { layer: number; name: string; quiet?: boolean } | { band: string; open?: () => void };

export interface GridSpec {
  label: string;
  columns: { text: string; marked?: boolean }[];
  /** Whether column heads stand at a slant, so that columns can be narrower than their tokens. */
  tilted: boolean;
  /** Rows from top to bottom. */
  rows: () => Row[];
  cell: (layer: number, column: number) => Cell;
  look: (layer: number, column: number) => void;
  /** `more`: with the shift key, to add to what was picked before. */
  pick: (layer: number, column: number, more: boolean) => void;
  /** Picks a whole row by its head, where rows can be picked, and tells which are. */
  row?: { pick: (layer: number) => void; picked: (layer: number) => boolean };
  /** One cell was drawn onto another. */
  drag?: (from: [number, number], to: [number, number]) => void;
  /** The cell that is looked at first. */
  start: [number, number];
}

/** Rows that are drawn before the first paint: more than a page shows at once. */
const AT_ONCE = 36;
/** Long enough for these to be seen first. */
const AFTER_PAINT_MS = 60;
/** How a drag ends, wherever on the page; it is taken away where a finger scrolls instead. */
const ENDS = ["pointerup", "pointercancel"];

export class Grid {
  readonly node: HTMLTableElement;
  readonly #spec: GridSpec;
  readonly #body = element("tbody");
  #rows: Row[] = [];
  /** The row and column that the tab key stops at. */
  #row = 0;
  #column: number;

  constructor(spec: GridSpec) {
    this.#spec = spec;
    this.#column = spec.start[1];
    this.node = element(
      "table",
      {
        class: spec.tilted ? "edif-grid edif-map" : "edif-grid",
        attributes: { role: "grid", "aria-readonly": "true", "aria-label": spec.label },
      },
      element("thead", {}, this.#head()),
      this.#body,
    );
    this.rebuild(spec.start[0]);
    this.#listen();
  }

  /** Draws the rows anew; the tab key stops at `layer`, or where it did. */
  rebuild(layer?: number): void {
    this.#rows = this.#spec.rows();
    const at = this.#rows.findIndex((row) => "layer" in row && row.layer === layer);
    this.#row = Math.max(0, at);
    this.#body.replaceChildren();
    this.#fill(this.#rows, 0, Math.max(AT_ONCE, this.#row + 1));
    this.#stop();
  }

  /** Draws rows from `first` on: some at once, the others once these are seen. */
  #fill(rows: Row[], first: number, count: number): void {
    if (rows !== this.#rows) return; // drawn anew meanwhile
    const end = Math.min(rows.length, first + count);
    this.#body.append(...rows.slice(first, end).map((row, n) => this.#drawRow(row, first + n)));
    if (end < rows.length) setTimeout(() => this.#fill(rows, end, rows.length), AFTER_PAINT_MS);
  }

  /** Colours and texts anew, in the same cells: nothing moves. */
  repaint(): void {
    for (const node of this.#body.querySelectorAll<HTMLElement>("td[data-column]")) {
      const row = this.#rows[Number(node.dataset.row)] as Row;
      if ("layer" in row) paint(node, this.#spec.cell(row.layer, Number(node.dataset.column)));
    }
    for (const node of this.#body.querySelectorAll<HTMLElement>("th[data-head]")) {
      const picked = this.#spec.row?.picked(Number(node.dataset.head)) === true;
      node.classList.toggle("edif-pinned", picked);
    }
  }

  /** Layer and column that the tab key stops at. */
  get spot(): [number, number] {
    const row = this.#rows[this.#row];
    return [row !== undefined && "layer" in row ? row.layer : this.#spec.start[0], this.#column];
  }

  focus(): void {
    this.#at(this.#row, this.#column)?.focus();
  }

  #head(): HTMLTableRowElement {
    const { columns, tilted } = this.#spec;
    const longest = Math.max(...columns.map(({ text }) => width(text)));
    const heads = columns.map(({ text, marked }) =>
      element(
        "th",
        { class: marked ? "edif-column edif-marked" : "edif-column", attributes: { scope: "col" } },
        element("span", { text }),
      ),
    );
    const style = tilted ? { height: `${Math.ceil(longest * 0.44 + 1.4)}em` } : {};
    return element(
      "tr",
      { style },
      element("th", { class: "edif-layer", text: "layer", attributes: { scope: "col" } }),
      ...heads,
    );
  }

  #drawRow(row: Row, n: number): HTMLTableRowElement {
    if ("band" in row) return this.#drawBand(row, n);
    const name = element("th", {
      class: row.quiet ? "edif-layer edif-quiet" : "edif-layer",
      attributes: { scope: "row" },
      text: row.name,
    });
    if (this.#spec.row !== undefined) {
      name.dataset.head = String(row.layer);
      name.classList.toggle("edif-pinned", this.#spec.row.picked(row.layer));
    }
    const cells = this.#spec.columns.map((_, column) => {
      const node = element("td", { attributes: { "data-row": String(n), "data-column": String(column) } });
      node.tabIndex = -1;
      paint(node, this.#spec.cell(row.layer, column));
      return node;
    });
    return element("tr", {}, name, ...cells);
  }

  #drawBand(row: { band: string; open?: () => void }, n: number): HTMLTableRowElement {
    const text = row.open === undefined ? row.band : `${row.band} · show`;
    const cell = element("td", {
      class: row.open === undefined ? "edif-gap" : "edif-band",
      text: `··· ${text}`,
      attributes: { colspan: String(this.#spec.columns.length), "data-row": String(n) },
    });
    if (row.open !== undefined) cell.tabIndex = -1;
    return element("tr", { class: "edif-fold" }, element("td", { class: "edif-layer" }), cell);
  }

  #listen(): void {
    const over = (event: Event): void => this.#look(event.target);
    this.node.addEventListener("pointerover", over);
    this.node.addEventListener("focusin", over);
    this.node.addEventListener("click", (event) => {
      const head = (event.target as Element).closest<HTMLElement>("[data-head]");
      if (head !== null) this.#spec.row?.pick(Number(head.dataset.head));
      const cell = (event.target as Element).closest<HTMLElement>("[data-row]");
      if (cell !== null) this.#go(Number(cell.dataset.row), Number(cell.dataset.column ?? this.#column));
      if (cell !== null) this.#pick(event.shiftKey);
    });
    this.#listenToDrags();
    // Away from the grid, what is looked at is again where the keyboard is.
    this.node.addEventListener("pointerleave", () => this.#look(this.#at(this.#row, this.#column)));
  }

  #listenToDrags(): void {
    const { drag } = this.#spec;
    if (drag === undefined) return;
    this.node.classList.add("edif-draggable");
    this.node.addEventListener("pointerdown", ({ target, button }) => {
      const from = this.#spotOf(target);
      if (from === undefined || button > 0) return;
      this.#carry(target as Element, (to) => {
        if (from.join() !== to.join()) drag(from, to);
      });
    });
  }

  /** Marks a cell as taken until it is let go of; `put` hears on which cell, if on one. */
  #carry(cell: Element, put: (to: [number, number]) => void): void {
    cell.classList.add("edif-taken");
    this.node.classList.add("edif-carrying"); // by :has() in the style, each hover would cost a large grid 60 ms
    const end = ({ type, target }: Event): void => {
      for (const name of ENDS) document.removeEventListener(name, end);
      cell.classList.remove("edif-taken");
      this.node.classList.remove("edif-carrying");
      const inside = type === "pointerup" && this.node.contains(target as Node);
      const to = inside ? this.#spotOf(target) : undefined;
      if (to !== undefined) put(to);
    };
    for (const name of ENDS) document.addEventListener(name, end);
  }

  /** Layer and column of a cell. */
  #spotOf(target: EventTarget | null): [number, number] | undefined {
    const cell = target instanceof Element ? target.closest<HTMLElement>("td[data-column]") : null;
    const row = cell === null ? undefined : this.#rows[Number(cell.dataset.row)];
    return row !== undefined && "layer" in row ? [row.layer, Number(cell?.dataset.column)] : undefined;
  }

  #look(target: EventTarget | null): void {
    const spot = this.#spotOf(target);
    if (spot !== undefined) this.#spec.look(...spot);
  }

  #pick(more = false): void {
    const row = this.#rows[this.#row];
    if (row === undefined) return;
    if ("layer" in row) this.#spec.pick(row.layer, this.#column, more);
    else row.open?.();
  }

  /** Does what `key` asks for; says whether it was one of the grid's. */
  key(key: string): boolean {
    const moves: Record<string, () => void> = {
      ArrowUp: () => this.#step(-1),
      ArrowDown: () => this.#step(1),
      ArrowLeft: () => this.#go(this.#row, this.#column - 1),
      ArrowRight: () => this.#go(this.#row, this.#column + 1),
      Home: () => this.#go(this.#row, 0),
      End: () => this.#go(this.#row, this.#spec.columns.length - 1),
      PageUp: () => this.#step(-this.#rows.length),
      PageDown: () => this.#step(this.#rows.length),
      Enter: () => this.#pick(),
      " ": () => this.#pick(),
    };
    if (!Object.hasOwn(moves, key) || !this.#body.contains(document.activeElement)) return false;
    (moves[key] as () => void)();
    return true;
  }

  /** Moves by rows, over bands that cannot be opened. */
  #step(by: number): void {
    const stops = this.#rows.map((row, n) => ("layer" in row || row.open ? n : -1)).filter((n) => n >= 0);
    const at = stops.indexOf(this.#row) + by;
    this.#go(stops[Math.min(Math.max(at, 0), stops.length - 1)] as number, this.#column);
  }

  #go(row: number, column: number): void {
    if (column < 0 || column >= this.#spec.columns.length) return;
    this.#at(this.#row, this.#column)?.setAttribute("tabindex", "-1");
    this.#row = row;
    this.#column = column;
    this.#stop();
    this.focus();
  }

  #stop(): void {
    this.#at(this.#row, this.#column)?.setAttribute("tabindex", "0");
  }

  #at(row: number, column: number): HTMLElement | null {
    const line = this.#body.rows[row];
    return line?.querySelector<HTMLElement>(`[data-column="${column}"], .edif-band`) ?? null;
  }
}

function paint(node: HTMLElement, { text, step, label, bold, pinned }: Cell): void {
  node.dataset.step = step;
  node.setAttribute("aria-label", label);
  node.textContent = text;
  node.classList.toggle("edif-final", bold === true);
  node.classList.toggle("edif-pinned", pinned === true);
}

/** How many narrow characters wide a text is, nearly: characters of East Asia take two. */
export function width(text: string): number {
  return [...text].reduce((sum, one) => sum + ((one.codePointAt(0) ?? 0) >= 0x2e80 ? 2 : 1), 0);
}
