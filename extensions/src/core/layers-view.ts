// What the lens and the maps have in common: a card with a grid of layers × columns, a panel beside it, a list of prompts
// to choose from, the same as a table, and files of it.  Called by them.
import { type Card, card } from "./card.ts";
import { Grid, type GridSpec } from "./grid.ts";
import { arrange, choice, type Frame as Parts, plainTable } from "./parts.ts";
import type { Place } from "./place.ts";
import type { Frame } from "./result.ts";
import { visibleLine } from "./text.ts";

export abstract class LayersView {
  readonly node: HTMLElement;
  protected readonly card: Card;
  protected readonly place: Place;
  protected readonly list: HTMLSelectElement | undefined;
  protected frame!: Parts;
  protected grid!: Grid;

  /** `names` are those to choose from; with one there is no list. */
  constructor(
    result: Frame,
    place: Place,
    keys: [string, string][],
    list: { label: string; names: string[] },
  ) {
    this.place = place;
    this.card = card(result.title, result.provenance, keys, result.foot);
    this.node = this.card.node;
    if (list.names.length > 1) {
      this.list = choice(list.label, list.names.map(visibleLine), (at) => this.turn(at));
      this.card.controls.append(this.list);
    }
  }

  /** Draws the grid and puts everything in its place; the last step of a view's making. */
  protected begin(result: Frame, keys: Record<string, () => void>): void {
    this.redraw();
    this.place.watch?.(() => this.view());
    this.frame = arrange(this.card, {
      middle: () => this.grid,
      table: () => this.table(),
      keys,
      file: { title: result.title, data: () => ({ ...result.raw, view: this.view() }) },
    });
  }

  /** A grid anew: other columns. */
  protected redraw(): void {
    this.grid = new Grid(this.spec());
  }

  protected table(): HTMLTableElement {
    const { layers, columns, caption, text } = this.words();
    const rows = layers.map((name, layer) => [name, ...columns.map((_, column) => text(layer, column))]);
    return plainTable(caption, ["layer", ...columns], rows.reverse());
  }

  /** Shows another prompt of the list. */
  protected abstract turn(at: number): void;
  protected abstract spec(): GridSpec;
  protected abstract words(): {
    layers: string[];
    columns: string[];
    caption: string;
    text: (layer: number, column: number) => string;
  };
  /** What the reader has chosen, to be kept with the result. */
  protected abstract view(): Record<string, unknown>;
}
