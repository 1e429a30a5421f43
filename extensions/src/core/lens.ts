// Draws a logit lens: layers upwards × tokens, what each layer would say in each cell, coloured by a metric.
// Called by draw.ts.
import { press, promptLine, segments } from "./card.ts";
import { element } from "./dom.ts";
import type { Cell, GridSpec, Row } from "./grid.ts";
import { LayersView } from "./layers-view.ts";
import { bandsOf, firstShown } from "./lens-layers.ts";
import { type Metric, metricsOf } from "./lens-metrics.ts";
import { Pins } from "./lens-pins.ts";
import { bars, heading, pairs } from "./parts.ts";
import type { Place } from "./place.ts";
import { type Line, plot } from "./plot.ts";
import type { Lens } from "./result.ts";
import { probabilityFigure, visibleLine, wordOf } from "./text.ts";

const KEYS: [string, string][] = [
  ["←↑→↓", "move"],
  ["Enter", "pin"],
  ["g", "group"],
  ["r", "row"],
  ["m", "metric"],
  ["t", "table"],
  ["e", "export"],
];
/** Tokens of a cell that the panel lists. */
const LISTED = 5;

export function drawLens(lens: Lens, place: Place): HTMLElement {
  return new LensView(lens, place).node;
}

class LensView extends LayersView {
  readonly #lens: Lens;
  readonly #pins: Pins;
  readonly #switch: HTMLElement;
  #shown: Set<number>;
  #at: number;
  #metrics: Metric[];
  #metric: Metric;
  #looked: [number, number];

  constructor(lens: Lens, place: Place) {
    const names = lens.prompts.map(({ prompt }, n) => `${n + 1}: ${prompt}`);
    super(lens, place, KEYS, { label: "prompt", names });
    this.#lens = lens;
    const { shown, prompt, pins, groups, rows } = lens.view;
    const pinned = rows.map((layer) => lens.layers.indexOf(layer)).filter((at) => at >= 0);
    this.#pins = new Pins(pins, groups, pinned);
    const kept = lens.layers.map((_, at) => at).filter((at) => shown?.includes(lens.layers[at] as number));
    this.#shown = shown === undefined ? firstShown(lens.layers.length) : new Set(kept);
    this.#at = prompt in lens.prompts ? prompt : 0;
    this.#metrics = metricsOf(lens, this.#at, place.scale);
    this.#metric =
      this.#metrics.find(({ name }) => name === lens.view.metric) ?? (this.#metrics[0] as Metric);
    this.#looked = this.#start();
    this.#switch = segments(
      "metric",
      this.#metrics.map(({ name }) => name),
      (name) => this.#choose(name),
    );
    this.card.controls.append(this.#switch);
    this.begin(lens, {
      m: () => this.#next(),
      g: () => this.#pin(this.#topOf(...this.#looked), true),
      r: () => this.#pinRow(this.#looked[0]),
    });
    if (this.list !== undefined) this.list.selectedIndex = this.#at;
    place.scale?.join(
      this,
      () => this.#repaint(),
      (name) => this.#show(name),
    );
    this.turn(this.#at);
  }

  get #prompt(): Lens["prompts"][number] {
    return this.#lens.prompts[this.#at] as Lens["prompts"][number];
  }

  protected turn(at: number): void {
    this.#at = at;
    this.card.origin.textContent = promptLine(this.#lens.provenance, this.#prompt);
    this.#metrics = metricsOf(this.#lens, at, this.place.scale);
    this.#looked = this.#start();
    this.redraw();
    this.frame.place();
    this.#show(this.#metric.name);
  }

  protected view(): Record<string, unknown> {
    const idsOf = (places: readonly number[]) => places.map((place) => this.#lens.words.ids[place]);
    const groups = this.#pins.groups.filter((group) => group.length > 1);
    const rows = [...this.#pins.rows].map((at) => this.#lens.layers[at]);
    return {
      metric: this.#metric.name,
      pins: idsOf(this.#pins.tokens),
      ...(groups.length > 0 ? { groups: groups.map(idsOf) } : {}),
      ...(rows.length > 0 ? { rows } : {}),
      prompt: this.#at,
      layers: [...this.#shown].sort((one, other) => one - other).map((at) => this.#lens.layers[at]),
    };
  }

  #start(): [number, number] {
    return [this.#lens.layers.length - 1, this.#prompt.tokens.length - 1];
  }

  #choose(name: string): void {
    this.#show(name);
    this.place.scale?.choose(this, name);
  }

  #show(name: string): void {
    this.#metric = this.#metrics.find((metric) => metric.name === name) ?? (this.#metrics[0] as Metric);
    press(this.#switch, this.#metric.name);
    this.node.dataset.metric = this.#metric.name;
    this.#repaint();
    this.frame.place();
    this.frame.say(`coloured by ${this.#metric.name}`);
  }

  #repaint(): void {
    this.grid.repaint();
    this.#refresh();
  }

  #next(): void {
    const at = this.#metrics.indexOf(this.#metric);
    this.#choose((this.#metrics[(at + 1) % this.#metrics.length] as Metric).name);
  }

  protected spec(): GridSpec {
    return {
      label: `${visibleLine(this.#lens.title)}: layers by tokens, ${visibleLine(this.#prompt.prompt)}`,
      columns: this.#prompt.tokens.map((token) => ({ text: this.#text(token) })),
      tilted: false,
      rows: () => this.#rows(),
      cell: (layer, position) => this.#cell(layer, position),
      look: (layer, position) => this.#look(layer, position),
      pick: (layer, position, more) => this.#pin(this.#topOf(layer, position), more),
      row: { pick: (layer) => this.#pinRow(layer), picked: (layer) => this.#pins.rows.has(layer) },
      start: this.#looked,
    };
  }

  #rows(): Row[] {
    return bandsOf(this.#lens.layers, this.#shown, (hidden) => {
      for (const layer of hidden) this.#shown.add(layer);
      this.grid.rebuild(hidden[0]);
      this.grid.focus();
      this.frame.say(`${hidden.length} layers shown`);
    });
  }

  #cell(layer: number, position: number): Cell {
    const value = this.#metric.value(this.#index(layer, position));
    const top = this.#topOf(layer, position);
    const text = this.#text(top);
    const figure = Number.isNaN(value) ? "not known" : this.#metric.figure(value);
    const place = `layer ${this.#lens.layers[layer]}, ${this.#text(this.#prompt.tokens[position] as number)}`;
    const pinned = this.#pins.has(top);
    return {
      text,
      step: this.#metric.step(value),
      label: `${text}, ${place}, ${this.#metric.name} ${figure}${pinned ? ", pinned" : ""}`,
      bold: this.#isFinal(layer),
      pinned,
    };
  }

  #look(layer: number, position: number): void {
    this.#looked = [layer, position];
    this.#refresh();
  }

  /** Pins a token, or takes its pin away; `more` puts it into the group that was pinned last. */
  #pin(token: number, more = false): void {
    if (token < 0) return;
    const group = more ? this.#pins.join(token) : [token];
    const held = more || this.#pins.turn(token);
    this.#repaint();
    this.frame.say(`${this.#together(group)} ${held ? "pinned" : "no longer pinned"}`);
  }

  #pinRow(layer: number): void {
    const held = this.#pins.turnRow(layer);
    this.#repaint();
    this.frame.say(`layer ${this.#lens.layers[layer]} ${held ? "pinned" : "no longer pinned"}`);
  }

  /** A token, or the tokens of a group. */
  #together(group: readonly number[]): string {
    return group.map((token) => this.#text(token)).join(" + ");
  }

  /** Panel and legend, after anything has changed. */
  #refresh(): void {
    const [layer, position] = this.#looked;
    const last = this.#lens.layers.length - 1;
    const token = this.#text(this.#prompt.tokens[position] as number);
    const nodes = [
      heading(`${token} · layer ${this.#lens.layers[layer]}${this.#isFinal(layer) ? " (final)" : ""}`),
    ];
    nodes.push(this.#bars(layer, position), this.#figures(layer, position));
    if (this.#lens.final && layer !== last)
      nodes.push(heading(`${token} · final`), this.#bars(last, position, 3));
    for (const at of this.#pins.rows) {
      if (at === layer) continue;
      nodes.push(heading(`${token} · pinned layer ${this.#lens.layers[at]}`), this.#bars(at, position, 3));
    }
    const paths = this.#paths(layer, position);
    nodes.push(heading(`${paths.map(({ name }) => name).join(", ")} by layer`));
    const note = `Where there is no point, it is not among the ${this.#lens.top} most probable tokens.`;
    this.frame.panel.replaceChildren(...nodes, this.#trajectory(paths));
    if (paths.some(({ values }) => values.some(Number.isNaN))) {
      this.frame.panel.append(element("p", { class: "edif-note", text: note }));
    }
    this.frame.legend.replaceChildren(
      ...this.#metric.legend(),
      ...this.#pins.groups.map((group) => this.#chip(group)),
    );
  }

  #bars(layer: number, position: number, most = LISTED): HTMLElement {
    const first = this.#index(layer, position) * this.#lens.top;
    const count = Math.min(most, this.#lens.top);
    const ranks = Array.from({ length: count }, (_, rank) => first + rank);
    return bars(
      ranks.map((at) => {
        const part = this.#prompt.probability[at] as number;
        return { text: this.#text(this.#prompt.top[at] as number), part, figure: probabilityFigure(part) };
      }),
    );
  }

  #figures(layer: number, position: number): HTMLElement {
    const cell = this.#index(layer, position);
    const known = this.#metrics.slice(1).map((metric): [string, string] => {
      const value = metric.value(cell);
      return [metric.name, Number.isNaN(value) ? "–" : metric.figure(value)];
    });
    return pairs(known);
  }

  /** How probabilities go through the layers. */
  #trajectory(lines: Line[]): HTMLElement {
    const [first, last] = [this.#lens.layers[0] as number, this.#lens.layers.at(-1) as number];
    return plot({
      lines,
      x: this.#lens.layers,
      ends: [`layer ${first}`, String(last)],
      figure: (value) => (value === 0 ? "0" : probabilityFigure(value)),
      what: `probability of ${lines.map(({ name }) => name).join(", ")} from layer ${first} to ${last}`,
    });
  }

  /** The looked-at cell's top token, and the pinned ones; a group has the sum of its tokens' probabilities. */
  #paths(layer: number, position: number): Line[] {
    const top = this.#topOf(layer, position);
    const alone = top >= 0 && !this.#pins.has(top) ? [[top]] : [];
    return [...alone, ...this.#pins.groups].map((group) => ({
      name: this.#together(group),
      look: this.#pins.has(group[0] as number) ? "orange" : "blue",
      values: this.#lens.layers.map((_, at) =>
        group.reduce((sum, token) => sum + this.#probabilityOf(token, this.#index(at, position)), 0),
      ),
    }));
  }

  /** Exact for followed tokens; for others known as long as they are among a cell's top tokens. */
  #probabilityOf(token: number, cell: number): number {
    const { top, targets } = this.#lens;
    const target = targets.indexOf(token);
    if (target >= 0) return this.#prompt.targetProbability[cell * targets.length + target] as number;
    const rank = this.#prompt.top.slice(cell * top, (cell + 1) * top).indexOf(token);
    return rank < 0 ? Number.NaN : (this.#prompt.probability[cell * top + rank] as number);
  }

  #chip(group: readonly number[]): HTMLElement {
    const name = this.#together(group);
    const node = element("button", {
      class: "edif-chip",
      text: `pinned ${name} ×`,
      attributes: { type: "button", "aria-label": `take the pin from ${name}` },
    });
    node.addEventListener("click", () => {
      this.#pins.drop(group);
      this.#repaint();
      this.frame.say(`${name} no longer pinned`);
    });
    return node;
  }

  protected words(): ReturnType<LayersView["words"]> {
    return {
      layers: this.#lens.layers.map(String),
      columns: this.#prompt.tokens.map((token) => this.#text(token)),
      caption: `most probable token, ${this.#metric.name}`,
      text: (layer, position) => {
        const value = this.#metric.value(this.#index(layer, position));
        const figure = Number.isNaN(value) ? "–" : this.#metric.figure(value);
        return `${this.#text(this.#topOf(layer, position))} ${figure}`;
      },
    };
  }

  #isFinal(layer: number): boolean {
    return this.#lens.final && layer === this.#lens.layers.length - 1;
  }

  #topOf(layer: number, position: number): number {
    return this.#prompt.top[this.#index(layer, position) * this.#lens.top] as number;
  }

  #index(layer: number, position: number): number {
    return layer * this.#prompt.tokens.length + position;
  }

  #text(token: number): string {
    return wordOf(this.#lens.words, token);
  }
}
