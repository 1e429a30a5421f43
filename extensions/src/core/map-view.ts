// Draws a map of effects: layers upwards × columns, switches for what is shown, figures beside it.  The methods say what
// a map holds, this draws it.  Called by patching-view.ts and trace-view.ts.
import { press, provenanceLine, segments } from "./card.ts";
import { element } from "./dom.ts";
import type { Cell, GridSpec } from "./grid.ts";
import { LayersView } from "./layers-view.ts";
import type { MapChoice } from "./maps-result.ts";
import { choice, heading, pairs } from "./parts.ts";
import type { Place } from "./place.ts";
import type { Frame } from "./result.ts";
import { visibleLine } from "./text.ts";

/** What is chosen: of the list, and of each switch, by number. */
export interface Chosen {
  sheet: number;
  switches: number[];
  /** Of the places of a map that is of one place alone; -1 for the last. */
  place: number;
}

/** One map, of what is chosen. */
export interface Sheet {
  columns: GridSpec["columns"];
  /** Places to choose from, where a map is of one alone. */
  places?: string[];
  /** Line under the title: where the map is from. */
  origin: string;
  /** Words for the map's figures, in the table and for screen readers. */
  meaning: string;
  value: (layer: number, column: number) => number;
  step: (value: number, column: number) => string;
  figure: (value: number, column: number) => string;
  /** Whether figures stand in the cells: few columns, of which each is read by itself. */
  written?: boolean;
  /** Why there is no figure. */
  missing: (column: number) => string;
  /** What holds for the whole map. */
  about: () => Node[];
  /** Name and figures of a cell. */
  detail: (layer: number, column: number) => { name: string; figures: [string, string][] };
  /** More about a cell than figures: plots, texts. */
  more?: (layer: number, column: number) => Node[];
  legend: () => Node[];
  /** What can be run next from a cell, or from one cell to another, where a kernel is at hand. */
  next?: (cell: [number, number], from?: [number, number]) => Next[];
}

/** A line of code, and words for it. */
export interface Next {
  words: string;
  code: string;
}

export interface MapSpec {
  result: Frame & { view: MapChoice };
  place: Place;
  layers: number[];
  /** What layers are called where a number is not enough. */
  names?: string[];
  /** The list to choose maps from: pairs or facts. */
  list: { label: string; names: string[] };
  /** Those with one name are not shown; the key `m` goes through the last one with more. */
  switches: { label: string; names: string[] }[];
  sheet: (chosen: Chosen) => Sheet;
}

const KEYS: [string, string][] = [
  ["←↑→↓", "move"],
  ["Enter", "pin"],
  ["m", "next map"],
  ["t", "table"],
  ["e", "export"],
];
/** Of more layers than this every fifth is named. */
const NAMED = 16;

export function drawMap(spec: MapSpec): HTMLElement {
  return new MapView(spec).node;
}

class MapView extends LayersView {
  readonly #spec: MapSpec;
  readonly #groups: (HTMLElement | undefined)[];
  readonly #chosen: Chosen;
  readonly #places: HTMLSelectElement;
  #pinned: [number, number] | undefined;
  #sheet: Sheet;
  #looked: [number, number] = [0, 0];

  constructor(spec: MapSpec) {
    super(spec.result, spec.place, KEYS, spec.list);
    this.#spec = spec;
    const { view } = spec.result;
    this.#chosen = {
      sheet: view.sheet in spec.list.names ? view.sheet : 0,
      switches: spec.switches.map(({ label, names }) =>
        Math.max(0, names.indexOf(view.switches[label] ?? "")),
      ),
      place: view.place,
    };
    this.#places = choice("position", [], (at) => {
      this.#chosen.place = at;
      this.#show(false);
    });
    this.#groups = spec.switches.map(({ label, names }, n) => {
      if (names.length < 2) return undefined;
      return segments(label, names, (name) => this.#choose(n, names.indexOf(name)));
    });
    this.card.controls.append(this.#places, ...this.#groups.filter((group) => group !== undefined));
    this.#sheet = spec.sheet(this.#chosen);
    this.begin(spec.result, {
      m: () => this.#next(),
      o: () => this.#run(),
      p: () => this.#run(this.#pinned),
    });
    if (this.list !== undefined) this.list.selectedIndex = this.#chosen.sheet;
    spec.place.scale?.join(
      this,
      () => this.#show(false),
      (name) => this.#follow(name),
    );
    this.#show(true, view.pin);
  }

  protected turn(at: number): void {
    this.#chosen.sheet = at;
    this.#chosen.place = -1;
    this.#show(true);
  }

  protected view(): Record<string, unknown> {
    const switches = this.#spec.switches.map(({ label, names }, n) => [
      label,
      names[this.#chosen.switches[n] as number],
    ]);
    const [layer, column] = this.#pinned ?? [];
    const pin = layer === undefined ? {} : { pin: [this.#spec.layers[layer], column] };
    const { sheet, place } = this.#chosen;
    return { sheet, switches: Object.fromEntries(switches), place, ...pin };
  }

  /** Another map beside this one shows something else now. */
  #follow(name: string): void {
    const [label, chosen] = name.split(": ");
    const n = this.#spec.switches.findIndex((one) => one.label === label);
    const at = this.#spec.switches[n]?.names.indexOf(chosen ?? "") ?? -1;
    if (at < 0) return;
    this.#chosen.switches[n] = at;
    this.#show(false);
  }

  #choose(n: number, at: number): void {
    this.#chosen.switches[n] = at;
    const { label, names } = this.#spec.switches[n] as MapSpec["switches"][number];
    this.place.scale?.choose(this, `${label}: ${names[at]}`);
    this.#show(false);
    this.frame.say(`${this.#spec.switches[n]?.label}: ${this.#spec.switches[n]?.names[at]}`);
  }

  #next(): void {
    const n = this.#groups.map((group) => group !== undefined).lastIndexOf(true);
    const count = this.#spec.switches[n]?.names.length ?? 0;
    if (count > 0) this.#choose(n, ((this.#chosen.switches[n] as number) + 1) % count);
  }

  /** Draws what is chosen; in the same cells where the columns are the same ones, so the keyboard stays where it is. */
  #show(anew: boolean, pin?: [number, number]): void {
    const before = this.#sheet.columns;
    this.#sheet = this.#spec.sheet(this.#chosen);
    const { columns, origin } = this.#sheet;
    const same = columns.length === before.length && columns.every(({ text }, n) => text === before[n]?.text);
    const focused = this.grid.node.contains(document.activeElement);
    if (anew || !same) {
      this.#pinned = this.#placeOf(pin);
      this.redraw();
    } else this.grid.repaint();
    this.#press();
    this.card.origin.textContent = [provenanceLine(this.#spec.result.provenance), origin].join(" · ");
    this.frame.legend.replaceChildren(...this.#sheet.legend());
    this.grid.node.setAttribute(
      "aria-label",
      `${visibleLine(this.#spec.result.title)}: ${this.#sheet.meaning}`,
    );
    this.#look(...this.grid.spot);
    this.frame.place();
    if (focused && !same) this.grid.focus();
  }

  /** The cell of a kept pin, where it is still there. */
  #placeOf(pin: [number, number] | undefined): [number, number] | undefined {
    if (pin === undefined) return undefined;
    const layer = this.#spec.layers.indexOf(pin[0]);
    return layer >= 0 && pin[1] in this.#sheet.columns ? [layer, pin[1]] : undefined;
  }

  /** Switches and the list of places, as they are chosen. */
  #press(): void {
    for (const [n, group] of this.#groups.entries()) {
      if (group !== undefined)
        press(group, this.#spec.switches[n]?.names[this.#chosen.switches[n] as number] ?? "");
    }
    const names = this.#sheet.places ?? [];
    this.#places.hidden = names.length < 2;
    this.#places.replaceChildren(...names.map((text) => element("option", { text })));
    this.#places.selectedIndex = this.#chosen.place < 0 ? names.length - 1 : this.#chosen.place;
  }

  protected spec(): GridSpec {
    const { layers, result } = this.#spec;
    const [top] = this.#strongest();
    return {
      label: visibleLine(result.title),
      columns: this.#sheet.columns,
      tilted: this.#sheet.written !== true,
      rows: () =>
        layers
          .map((number, layer) => ({
            layer,
            name: this.#name(layer),
            quiet: this.#isQuiet(number, layer),
          }))
          .reverse(),
      cell: (layer, column) => this.#cell(layer, column),
      look: (layer, column) => this.#look(layer, column),
      pick: (layer, column) => this.#pin(layer, column),
      start: top,
      ...(this.#sheet.next && this.place.run
        ? { drag: (from: [number, number], to: [number, number]) => this.#run(from, to) }
        : {}),
    };
  }

  /** The cell with the largest figure: what is looked at first. */
  #strongest(): [[number, number], number] {
    let [found, most]: [[number, number], number] = [[this.#spec.layers.length - 1, 0], 0];
    for (const layer of this.#spec.layers.keys()) {
      for (const column of this.#sheet.columns.keys()) {
        const size = Math.abs(this.#sheet.value(layer, column));
        if (size > most) [found, most] = [[layer, column], size];
      }
    }
    return [found, most];
  }

  #name(layer: number): string {
    return this.#spec.names?.[layer] ?? String(this.#spec.layers[layer]);
  }

  /** Of many thin rows every fifth is named, and the last. */
  #isQuiet(number: number, layer: number): boolean {
    const { layers } = this.#spec;
    return !this.#sheet.written && layers.length > NAMED && number % 5 !== 0 && layer < layers.length - 1;
  }

  #cell(layer: number, column: number): Cell {
    const value = this.#sheet.value(layer, column);
    const figure = Number.isNaN(value) ? this.#sheet.missing(column) : this.#sheet.figure(value, column);
    const name = this.#sheet.columns[column]?.text;
    const pinned = this.#pinned?.[0] === layer && this.#pinned[1] === column;
    return {
      text: this.#sheet.written && !Number.isNaN(value) ? figure : "",
      step: this.#sheet.step(value, column),
      label: `${name}, layer ${this.#name(layer)}, ${figure}${pinned ? ", pinned" : ""}`,
      pinned,
    };
  }

  /** Figures of the cell, and of the pinned one below to compare it with. */
  #look(layer: number, column: number): void {
    const nodes = this.#sheet.about();
    const detail = (before: string, [at, where]: [number, number]) => {
      const { name, figures } = this.#sheet.detail(at, where);
      nodes.push(heading(before + name), pairs(figures));
    };
    detail("", [layer, column]);
    const pinned = this.#pinned?.join() === [layer, column].join() ? undefined : this.#pinned;
    if (pinned !== undefined) detail("pinned: ", pinned);
    nodes.push(...(this.#sheet.more?.(layer, column) ?? []));
    this.#looked = [layer, column];
    this.frame.panel.replaceChildren(...nodes, ...this.#deeds(pinned));
  }

  /** Buttons for what can be run next from the cell that is looked at. */
  #deeds(pinned: [number, number] | undefined): Node[] {
    const { run } = this.place;
    const some = this.#sheet.next?.(this.#looked) ?? [];
    const across = pinned === undefined ? [] : (this.#sheet.next?.(this.#looked, pinned) ?? []);
    if (run === undefined || some.length + across.length === 0) return [];
    // The first of each has a key of its own: o from a cell, p from the pinned one to it.
    const keys = new Map([
      [some[0], "o"],
      [across[0], "p"],
    ]);
    const buttons = [...some, ...across].map((deed) => {
      const { words, code } = deed;
      const key = keys.get(deed);
      const button = element(
        "button",
        { class: "edif-button", attributes: { type: "button", title: code, ...shortcut(key) } },
        document.createTextNode(words),
        ...(key === undefined ? [] : [document.createTextNode(" "), keyCap(key)]),
      );
      button.addEventListener("click", () => run(code));
      return button;
    });
    return [element("div", { class: "edif-act" }, ...buttons)];
  }

  /** Runs the first thing that can be run at a cell, or from one cell to another. */
  #run(from?: [number, number], to: [number, number] = this.#looked): void {
    const [first] = this.#sheet.next?.(to, from) ?? [];
    if (first === undefined || this.place.run === undefined) return;
    this.place.run(first.code);
    this.frame.say(`${first.words}: runs in the cell below`);
  }

  #pin(layer: number, column: number): void {
    const held = this.#pinned?.[0] === layer && this.#pinned[1] === column;
    this.#pinned = held ? undefined : [layer, column];
    this.grid.repaint();
    this.#look(layer, column);
    this.frame.say(held ? "pin taken away" : "pinned");
  }

  protected words(): ReturnType<LayersView["words"]> {
    const { columns, value, figure, meaning } = this.#sheet;
    const text = (layer: number, column: number): string => {
      const found = value(layer, column);
      return Number.isNaN(found) ? "–" : figure(found, column);
    };
    return {
      layers: this.#spec.layers.map((_, layer) => this.#name(layer)),
      columns: columns.map((column) => column.text),
      caption: meaning,
      text,
    };
  }
}

function shortcut(key: string | undefined): Record<string, string> {
  return key === undefined ? {} : { "aria-keyshortcuts": key };
}

/** A key, for the eye: what reads aloud has it from the shortcut. */
function keyCap(key: string): HTMLElement {
  return element("kbd", { text: key, attributes: { "aria-hidden": "true" } });
}
