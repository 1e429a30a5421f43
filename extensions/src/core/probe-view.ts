// Draws a probe: what can be read from a layer beside what moving along the probe's direction does to the answers, for the
// first says little about the second.  Called by draw.ts.
import { element } from "./dom.ts";
import { type Chosen, drawMap, type Sheet } from "./map-view.ts";
import { heading, legendOf, stepOf } from "./parts.ts";
import type { Place } from "./place.ts";
import { type Line, plot } from "./plot.ts";
import type { Interval } from "./probe-result.ts";
import type { Probe } from "./result.ts";
import { DIVERGING, diverging, SEQUENTIAL } from "./scale.ts";
import { signedFigure, visibleLine } from "./text.ts";

/** Columns before those of effects: accuracy, and that of shuffled labels. */
const READ = 2;

export function drawProbe(result: Probe, place: Place): HTMLElement {
  return drawMap({
    result,
    place,
    layers: result.layers,
    list: { label: "position", names: result.positions.map((name) => `position ${name}`) },
    switches: [{ label: "towards", names: result.effects === undefined ? [""] : result.towards }],
    sheet: (chosen) => sheetOf(result, chosen, place),
  });
}

function sheetOf(result: Probe, chosen: Chosen, { scale }: Place): Sheet {
  const { layers, effects, chance, accuracy, control } = result;
  const figures = figuresOf(result, chosen);
  const columns = headsOf(result);
  const value: Sheet["value"] = (layer, column) => figures(column).mean(layer);
  let extent = 0;
  for (const layer of layers.keys()) {
    for (let column = READ; column < columns.length; column++)
      extent = Math.max(extent, Math.abs(value(layer, column)) || 0);
  }
  const most = scale?.most("effect", extent) ?? (extent || 1);
  const towards = result.towards[chosen.switches[0] ?? 0] ?? "";
  const classes = result.classes.map(visibleLine).join(", ");
  const meaning = `accuracy of reading ${classes}, and what moving towards ${visibleLine(towards)} does`;
  return {
    columns,
    written: true,
    origin: `classes ${classes} · position ${visibleLine(result.positions[chosen.sheet] ?? "")}`,
    meaning,
    value,
    step: (found, column) => (column < READ ? stepOf(found, Math.min(chance, 1), 1) : diverging(found, most)),
    figure: (found, column) => (column < READ ? found.toFixed(2) : signedFigure(found)),
    missing: () => "not known",
    about: () => aboutOf(result),
    legend: () => [
      ...legendOf(SEQUENTIAL, `≤ ${chance.toFixed(2)}`, "1", "accuracy"),
      ...(effects === undefined
        ? []
        : legendOf(
            DIVERGING,
            signedFigure(-most),
            signedFigure(most),
            "change of the answer’s lead, logits",
          )),
    ],
    detail: (layer, column) => {
      const { mean, low, high } = figures(column);
      const shown = (found: number) =>
        Number.isNaN(found) ? "–" : column < READ ? found.toFixed(3) : signedFigure(found);
      return {
        name: `${columns[column]?.text} · layer ${layers[layer]}`,
        figures: [
          [column < READ ? "accuracy" : "mean change of the lead", shown(mean(layer))],
          [column === 1 ? "least of shuffles" : "from", shown(low(layer))],
          [column === 1 ? "most of shuffles" : "to", shown(high(layer))],
        ],
      };
    },
    more: (_, column) => [
      ...accuracyPlot(result, chosen.sheet, accuracy, control),
      ...(effects === undefined ? [] : effectPlot(result, figures, columns, column)),
    ],
  };
}

function aboutOf({ effects, lacking, unit }: Probe): Node[] {
  const how =
    effects === undefined
      ? `Accuracy alone says little about what the model uses. There are no effects: ${visibleLine(lacking)}`
      : `Steered: along the direction, in ${visibleLine(unit)}. Swapped: the part along it from another prompt. Interchanged: all of it.`;
  return [
    heading("Read, and used?"),
    element("p", { class: "edif-note", text: `Accuracy on unseen prompts, beside shuffled labels. ${how}` }),
  ];
}

function headsOf({ effects, strengths }: Probe): Sheet["columns"] {
  const read = [{ text: "accuracy" }, { text: "shuffled" }];
  if (effects === undefined) return read;
  const strong = strengths.map((one) => ({ text: `${one < 0 ? "−" : "+"}${Math.abs(one)}` }));
  return [...read, ...strong, { text: "swapped" }, { text: "interchanged" }];
}

type Of = Record<"mean" | "low" | "high", (layer: number) => number>;

/** The figures of a column, at the chosen position and towards the chosen class. */
function figuresOf(result: Probe, { sheet, switches: [towards = 0] }: Chosen): (column: number) => Of {
  const { positions, strengths, accuracy, control, effects } = result;
  const wide = strengths.length + 2;
  const of = (held: Interval, index: (layer: number) => number): Of => ({
    mean: (layer) => held.mean[index(layer)] ?? Number.NaN,
    low: (layer) => held.low[index(layer)] ?? Number.NaN,
    high: (layer) => held.high[index(layer)] ?? Number.NaN,
  });
  const cell = (layer: number) => layer * positions.length + sheet;
  return (column) => {
    if (column < READ) return of(column === 0 ? accuracy : control, cell);
    const index = (layer: number) => (cell(layer) * result.towards.length + towards) * wide + column - READ;
    return of(effects as Interval, index);
  };
}

function accuracyPlot(
  { layers, positions, chance }: Probe,
  place: number,
  accuracy: Interval,
  control: Interval,
): Node[] {
  const along = (held: number[]): number[] =>
    layers.map((_, layer) => held[layer * positions.length + place] ?? Number.NaN);
  const line = (name: string, look: Line["look"], { mean, low, high }: Interval): Line => ({
    name,
    look,
    dashed: look === "muted",
    values: along(mean),
    band: { low: along(low), high: along(high) },
  });
  return [
    heading("Accuracy by layer"),
    plot({
      lines: [line("probe, 95 %", "blue", accuracy), line("shuffled labels, all", "muted", control)],
      x: layers,
      ends: [`layer ${layers[0]}`, String(layers.at(-1))],
      figure: (value) => value.toFixed(2),
      within: [chance, 1],
      what: "accuracy of the probe and of shuffled labels by layer",
    }),
  ];
}

/** The looked-at effect by layer, with its interval; of accuracies, the strongest steering. */
function effectPlot(
  { layers, strengths }: Probe,
  figures: (column: number) => Of,
  columns: Sheet["columns"],
  column: number,
): Node[] {
  const shown = column < READ ? READ + Math.max(0, strengths.length - 1) : column;
  const { mean, low, high } = figures(shown);
  const along = (of: (layer: number) => number): number[] => layers.map((_, layer) => of(layer));
  const name = `${columns[shown]?.text}, by layer (95 %)`;
  return [
    heading(name),
    plot({
      lines: [{ name, look: "orange", values: along(mean), band: { low: along(low), high: along(high) } }],
      x: layers,
      ends: [`layer ${layers[0]}`, String(layers.at(-1))],
      figure: signedFigure,
      what: `change of the answer’s lead, ${name}`,
    }),
  ];
}
