// Draws a causal trace: how much of the answer comes back, all kinds on one scale.  Called by draw.ts.
import { element } from "./dom.ts";
import { drawMap, type Sheet } from "./map-view.ts";
import type { TraceAverage, TracedFact } from "./maps-result.ts";
import { heading, legendOf, pairs, stepOf } from "./parts.ts";
import type { Place } from "./place.ts";
import { plot } from "./plot.ts";
import type { Trace } from "./result.ts";
import { SEQUENTIAL } from "./scale.ts";
import { probabilityFigure, signedFigure, visibleLine, wordOf } from "./text.ts";

export function drawTrace(result: Trace, place: Place): HTMLElement {
  const { facts, average } = result;
  const listed = facts.map(({ prompt }, n) => `${n + 1}: ${prompt}`);
  return drawMap({
    result,
    place,
    layers: result.layers,
    list: { label: "fact", names: average === undefined ? listed : ["average of all facts", ...listed] },
    switches: [{ label: "kind", names: result.kinds.map((kind) => kind.replaceAll("_", " ")) }],
    sheet: ({ sheet, switches: [kind = 0] }) => {
      const fact = sheet - (average === undefined ? 0 : 1);
      if (fact < 0) return averageSheet(result, average as TraceAverage, kind, place);
      return factSheet(result, facts[fact] as TracedFact, kind, place);
    },
  });
}

function factSheet(result: Trace, fact: TracedFact, kind: number, place: Place): Sheet {
  const of = (held: number[]) => (layer: number, column: number) =>
    held[(kind * result.layers.length + layer) * fact.tokens.length + column] ?? Number.NaN;
  const [value, spread] = [of(fact.effect), of(fact.spread)];
  const name = (token: number) => wordOf(result.words, token);
  const [first, end] = fact.subject;
  const columns = fact.tokens.map((token, at) => ({ text: name(token), marked: at >= first && at < end }));
  const bos = fact.bos === undefined ? "" : fact.bos ? "BOS" : "no BOS";
  const replaced = fact.corrupt === undefined ? "" : `corrupt “${visibleLine(fact.corrupt)}”`;
  const origin = [bos, `“${visibleLine(fact.prompt)}” → ${name(fact.answer)}`, replaced];
  return {
    ...onOneScale(result, fact.effect, kind, place),
    columns,
    origin: origin.filter((part) => part !== "").join(" · "),
    value,
    about: () => [
      heading(`Probability of ${name(fact.answer)}`),
      pairs([
        ["clean", probabilityFigure(fact.clean)],
        ["subject corrupted", probabilityFigure(fact.corrupted)],
        ["total effect", signedFigure(fact.clean - fact.corrupted)],
      ]),
      element("p", { class: "edif-note", text: `${how(result, kind)} The subject’s tokens are orange.` }),
    ],
    detail: (layer, column) => ({
      name: `${columns[column]?.text} · layer ${result.layers[layer]}`,
      figures: [
        ["restored", probabilityFigure(fact.corrupted + value(layer, column))],
        ["indirect effect", signedFigure(value(layer, column))],
        ["spread over samples", `± ${probabilityFigure(spread(layer, column))}`],
      ],
    }),
    more: (_, column) =>
      byLayer(result, kind, column, columns[column]?.text ?? "", {
        width: fact.tokens.length,
        middle: fact.effect,
        low: fact.effect.map((found, n) => found - (fact.spread[n] as number)),
        high: fact.effect.map((found, n) => found + (fact.spread[n] as number)),
        around: "± spread over samples",
      }),
  };
}

function averageSheet(result: Trace, average: TraceAverage, kind: number, place: Place): Sheet {
  const { classes, facts } = average;
  const of = (held: number[]) => (layer: number, column: number) =>
    held[(kind * result.layers.length + layer) * classes.length + column] ?? Number.NaN;
  const [value, low, high] = [of(average.mean), of(average.low), of(average.high)];
  const known = (figure: number) => (Number.isNaN(figure) ? "–" : signedFigure(figure));
  return {
    ...onOneScale(result, average.mean, kind, place),
    columns: classes.map((text) => ({ text, marked: text.includes("subject") })),
    origin: "average over facts, by what a token is to the subject",
    value,
    about: () => [
      heading("Average indirect effect"),
      element("p", {
        class: "edif-note",
        text: `${how(result, kind)} Interval of 95 %, by resampling facts.`,
      }),
    ],
    detail: (layer, column) => ({
      name: `${classes[column]} · layer ${result.layers[layer]}`,
      figures: [
        ["indirect effect", known(value(layer, column))],
        ["from", known(low(layer, column))],
        ["to", known(high(layer, column))],
        ["facts", String(facts[column])],
      ],
    }),
    more: (_, column) =>
      byLayer(result, kind, column, classes[column] ?? "", {
        width: classes.length,
        middle: average.mean,
        low: average.low,
        high: average.high,
        around: "interval of 95 %",
      }),
  };
}

interface Figures {
  /** Columns of the map that the arrays are of. */
  width: number;
  middle: number[];
  low: number[];
  high: number[];
  /** What lies between low and high. */
  around: string;
}

/** The paper's line plot (Meng et al. 2022, figure 3): one column of every kind by layer, the chosen one with its interval. */
function byLayer(
  { kinds, layers }: Trace,
  kind: number,
  column: number,
  name: string,
  { width, middle, low, high, around }: Figures,
): Node[] {
  const of = (held: number[], n: number): number[] =>
    layers.map((_, layer) => held[(n * layers.length + layer) * width + column] ?? Number.NaN);
  const looks = ["blue", "orange", "muted"] as const;
  const lines = kinds.map((one, n) => ({
    name: one.replaceAll("_", " "),
    look: looks[n % looks.length] as (typeof looks)[number],
    dashed: n >= looks.length,
    values: of(middle, n),
    ...(n === kind ? { band: { low: of(low, n), high: of(high, n) } } : {}),
  }));
  const about = `${name}, by layer (${around} of ${kinds[kind]?.replaceAll("_", " ")})`;
  return [
    heading(about),
    plot({
      lines,
      x: layers,
      ends: [`layer ${layers[0]}`, String(layers.at(-1))],
      figure: signedFigure,
      what: `indirect effect at ${about}`,
    }),
  ];
}

/** The scale is that of all kinds together, so that they can be compared. */
function onOneScale(
  { kinds }: Trace,
  all: number[],
  kind: number,
  { scale }: Place,
): Pick<Sheet, "meaning" | "step" | "figure" | "missing" | "legend"> {
  const own = all.reduce(
    ([least, most], value) => [Math.min(least, value || 0), Math.max(most, value || 0)] as [number, number],
    [0, 0] as [number, number],
  );
  const low = -(scale?.most("below", -own[0]) ?? -own[0]) || 0;
  const high = scale?.most("above", own[1]) ?? own[1];
  const meaning = `indirect effect on the answer’s probability, ${kinds[kind]?.replaceAll("_", " ")}; one scale for all kinds`;
  return {
    meaning,
    step: (value) => stepOf(value, low, high),
    figure: signedFigure,
    missing: () => "no such token",
    legend: () => legendOf(SEQUENTIAL, signedFigure(low), signedFigure(high), meaning),
  };
}

function how({ kinds, window }: Trace, kind: number): string {
  const wide = kinds[kind] === "mlp" || kinds[kind] === "attention";
  return wide
    ? `Restored: ${kinds[kind]} outputs in a window of ${window} ${window === 1 ? "layer" : "layers"}.`
    : "Restored: one layer’s output.";
}
