// Draws a logit lens: layers upwards × tokens, what each layer would say in each cell, coloured by a metric.
// Called by draw.ts.
import { card, press, promptLine, segments } from "./card.ts";
import { element } from "./dom.ts";
import { Grid, type Row } from "./grid.ts";
import { bandsOf, firstShown } from "./lens-layers.ts";
import { type Metric, metricsOf } from "./lens-metrics.ts";
import { arrange, bars, choice, heading, pairs, plainTable } from "./parts.ts";
import type { Lens } from "./result.ts";
import { probabilityFigure, visibleLine, visibleToken } from "./text.ts";
import { type Path, trajectory } from "./trajectory.ts";

const KEYS: [string, string][] = [
  ["←↑→↓", "move"],
  ["Enter", "pin"],
  ["m", "metric"],
  ["t", "table"],
];
/** Tokens of a cell that the panel lists. */
const LISTED = 5;

export function drawLens(lens: Lens): HTMLElement {
  return new LensView(lens).node;
}

class LensView {
  readonly node: HTMLElement;
  readonly #lens: Lens;
  readonly #pins: Set<number>;
  readonly #card: ReturnType<typeof card>;
  readonly #frame: ReturnType<typeof arrange>;
  readonly #switch: HTMLElement;
  #shown: Set<number>;
  #at = 0;
  #metrics: Metric[];
  #metric: Metric;
  #grid: Grid;
  #looked: [number, number];

  constructor(lens: Lens) {
    this.#lens = lens;
    this.#pins = new Set(lens.view.pins);
    this.#shown = firstShown(lens.layers.length);
    this.#card = card(lens.title, lens.provenance, KEYS, lens.foot);
    this.node = this.#card.node;
    this.#metrics = metricsOf(lens, 0);
    this.#metric =
      this.#metrics.find(({ name }) => name === lens.view.metric) ?? (this.#metrics[0] as Metric);
    this.#looked = this.#start();
    const { controls } = this.#card;
    this.#switch = segments(
      "metric",
      this.#metrics.map(({ name }) => name),
      (name) => this.#choose(name),
    );
    if (lens.prompts.length > 1) {
      const names = lens.prompts.map(({ prompt }, n) => `${n + 1}: ${visibleLine(prompt)}`);
      controls.append(choice("prompt", names, (at) => this.#turn(at)));
    }
    controls.append(this.#switch);
    this.#grid = this.#draw();
    this.#frame = arrange(
      this.#card,
      () => this.#grid,
      () => this.#table(),
      { m: () => this.#next() },
    );
    this.#turn(0);
  }

  get #prompt(): Lens["prompts"][number] {
    return this.#lens.prompts[this.#at] as Lens["prompts"][number];
  }

  /** Shows another prompt. */
  #turn(at: number): void {
    this.#at = at;
    this.#card.origin.textContent = promptLine(this.#lens.provenance, this.#prompt);
    this.#metrics = metricsOf(this.#lens, at);
    this.#looked = this.#start();
    this.#grid = this.#draw();
    this.#frame.place();
    this.#choose(this.#metric.name);
  }

  #start(): [number, number] {
    return [this.#lens.layers.length - 1, this.#prompt.tokens.length - 1];
  }

  #choose(name: string): void {
    this.#metric = this.#metrics.find((metric) => metric.name === name) ?? (this.#metrics[0] as Metric);
    press(this.#switch, this.#metric.name);
    this.node.dataset.metric = this.#metric.name;
    this.#grid.repaint();
    this.#refresh();
    this.#frame.place();
    this.#frame.say(`coloured by ${this.#metric.name}`);
  }

  #next(): void {
    const at = this.#metrics.indexOf(this.#metric);
    this.#choose((this.#metrics[(at + 1) % this.#metrics.length] as Metric).name);
  }

  #draw(): Grid {
    return new Grid({
      label: `${visibleLine(this.#lens.title)}: layers by tokens, ${visibleLine(this.#prompt.prompt)}`,
      columns: this.#prompt.tokens.map((token) => ({ text: this.#text(token) })),
      tilted: false,
      rows: () => this.#rows(),
      cell: (layer, position) => this.#cell(layer, position),
      look: (layer, position) => this.#look(layer, position),
      pick: (layer, position) => this.#pin(this.#topOf(layer, position)),
      start: this.#looked,
    });
  }

  #rows(): Row[] {
    return bandsOf(this.#lens.layers, this.#shown, (hidden) => {
      for (const layer of hidden) this.#shown.add(layer);
      this.#grid.rebuild(hidden[0]);
      this.#grid.focus();
      this.#frame.say(`${hidden.length} layers shown`);
    });
  }

  #cell(layer: number, position: number): ReturnType<ConstructorParameters<typeof Grid>[0]["cell"]> {
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

  #pin(token: number): void {
    if (token < 0) return;
    const held = this.#pins.delete(token);
    if (!held) this.#pins.add(token);
    this.#grid.repaint();
    this.#refresh();
    this.#frame.say(`${this.#text(token)} ${held ? "no longer pinned" : "pinned"}`);
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
    if (this.#lens.final) nodes.push(heading(`${token} · final`), this.#bars(last, position, 3));
    const paths = this.#paths(layer, position);
    nodes.push(heading(`${paths.map(({ name }) => name).join(", ")} by layer`));
    const note = `Where there is no point, it is not among the ${this.#lens.top} most probable tokens.`;
    this.#frame.panel.replaceChildren(...nodes, trajectory(paths, this.#lens.layers));
    if (paths.some(({ values }) => values.some(Number.isNaN))) {
      this.#frame.panel.append(element("p", { class: "edif-note", text: note }));
    }
    this.#frame.legend.replaceChildren(
      ...this.#metric.legend(),
      ...[...this.#pins].map((pin) => this.#chip(pin)),
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

  /** The looked-at cell's top token, and the pinned ones. */
  #paths(layer: number, position: number): Path[] {
    const top = this.#topOf(layer, position);
    const followed = [...new Set([top, ...this.#pins])].filter((token) => token >= 0);
    return followed.map((token) => ({
      name: this.#text(token),
      pinned: this.#pins.has(token),
      values: this.#lens.layers.map((_, at) => this.#probabilityOf(token, this.#index(at, position))),
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

  #chip(token: number): HTMLElement {
    const node = element("button", {
      class: "edif-chip",
      text: `pinned ${this.#text(token)} ×`,
      attributes: { type: "button", "aria-label": `take the pin from ${this.#text(token)}` },
    });
    node.addEventListener("click", () => this.#pin(token));
    return node;
  }

  #table(): HTMLTableElement {
    const { layers } = this.#lens;
    const head = ["layer", ...this.#prompt.tokens.map((token) => this.#text(token))];
    const rows = layers.map((name, layer) => [
      String(name),
      ...this.#prompt.tokens.map((_, position) => {
        const value = this.#metric.value(this.#index(layer, position));
        const figure = Number.isNaN(value) ? "–" : this.#metric.figure(value);
        return `${this.#text(this.#topOf(layer, position))} ${figure}`;
      }),
    ]);
    return plainTable(`most probable token, ${this.#metric.name}`, head, rows.reverse());
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
    return token < 0 ? "–" : visibleToken(this.#lens.words.texts[token] as string);
  }
}
