// Draws several results in one output, on one scale: two beside each other, or one of a series that sliders choose.
// Called by draw.ts, which draws the single ones.
import { element } from "./dom.ts";
import { type Fields, record } from "./fields.ts";
import { OneScale, type Place } from "./place.ts";
import type { Together } from "./result.ts";
import { visibleLine } from "./text.ts";
import type { Axis } from "./together-result.ts";

/** Draws one result. */
export type Draw = (data: Fields, place: Place) => HTMLElement;

export function drawTogether(result: Together, place: Place, draw: Draw): HTMLElement {
  if (result.layout === "series") return new Series(result, place, draw).node;
  return drawBeside(result.results, place, draw);
}

/** Results beside each other where there is room, one below the other where there is none; metrics are chosen for all. */
export function drawBeside(results: Fields[], place: Place, draw: Draw): HTMLElement {
  const scale = new OneScale();
  const drawn = results.map((one) => draw(one, { ...place, scale }));
  for (const node of drawn) node.classList.add("edif-half");
  return element(
    "div",
    { class: "edif-several", attributes: { role: "group", "aria-label": "on one scale" } },
    element("div", { class: "edif-side" }, ...drawn),
  );
}

class Series {
  readonly node: HTMLElement;
  readonly #result: Together;
  readonly #place: Place;
  readonly #draw: Draw;
  readonly #scale = new OneScale();
  readonly #shown = element("div");
  readonly #at: number[];
  readonly #heads: HTMLElement[];
  readonly #live = element("div", { class: "edif-live", attributes: { role: "status" } });
  #view: (() => Record<string, unknown>) | undefined;

  constructor(result: Together, place: Place, draw: Draw) {
    this.#result = result;
    this.#place = place;
    this.#draw = draw;
    this.#at = placeAt(result, Math.max(0, result.places.indexOf(0)));
    this.#heads = result.axes.map(({ name }) =>
      element("span", { class: "edif-setting", text: visibleLine(name) }),
    );
    const sliders = result.axes.map((axis, n) => this.#slider(axis, n));
    this.node = element(
      "div",
      { class: "edif-several", attributes: { role: "group", "aria-label": visibleLine(result.title) } },
      element("div", { class: "edif-card edif-sliders", attributes: { dir: "ltr" } }, ...sliders, this.#live),
      this.#shown,
    );
    // Every result is drawn once, so that the scale is that of all from the beginning.
    for (const one of result.results) draw(one, { ...place, scale: this.#scale });
    this.#show();
  }

  #slider({ name, values }: Axis, n: number): HTMLElement {
    const input = element("input", {
      attributes: {
        type: "range",
        min: "0",
        max: String(values.length - 1),
        step: "1",
        value: String(this.#at[n]),
        "aria-label": visibleLine(name),
      },
    });
    // A notebook takes arrow keys for its own, and would leave none to the slider.
    input.addEventListener("keydown", (event) => event.stopPropagation());
    input.addEventListener("input", () => {
      this.#at[n] = Number(input.value);
      this.#show();
      input.setAttribute("aria-valuetext", visibleLine(values[Number(input.value)] ?? ""));
    });
    input.setAttribute("aria-valuetext", visibleLine(values[this.#at[n] ?? 0] ?? ""));
    return element("label", { class: "edif-slider" }, this.#heads[n] as HTMLElement, input);
  }

  /** The result at the sliders' place, with what the reader had chosen of the one before. */
  #show(): void {
    const { axes, places, results } = this.#result;
    for (const [n, { name, values }] of axes.entries()) {
      (this.#heads[n] as HTMLElement).textContent = visibleLine(`${name} ${values[this.#at[n] ?? 0]}`);
    }
    const at = axes.reduce((sum, { values }, n) => sum * values.length + (this.#at[n] ?? 0), 0);
    const one = results[places[at] ?? -1];
    if (one === undefined) {
      const text = "There is no result for these settings: move a slider.";
      this.#shown.replaceChildren(element("p", { class: "edif-card", text }));
      this.#live.textContent = text;
      return;
    }
    const chosen = { ...record(one.view ?? {}, "Its view"), ...this.#view?.() };
    this.#scale.rest();
    const watch = (view: () => Record<string, unknown>): void => {
      this.#view = view;
    };
    this.#shown.replaceChildren(
      this.#draw({ ...one, view: chosen }, { ...this.#place, scale: this.#scale, watch }),
    );
    this.#live.textContent = this.#heads.map((head) => head.textContent).join(", ");
  }
}

/** Where sliders stand for a combination, the last axis fastest. */
function placeAt({ axes }: Together, at: number): number[] {
  const found: number[] = [];
  let left = at;
  for (const { values } of [...axes].reverse()) {
    found.unshift(left % values.length);
    left = Math.floor(left / values.length);
  }
  return found;
}
