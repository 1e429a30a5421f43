// Draws a causal trace: how much of the answer comes back, all kinds on one scale.  Called by draw.ts.
import { element } from "./dom.ts";
import { drawMap, type Sheet } from "./map-view.ts";
import type { TraceAverage, TracedFact } from "./maps-result.ts";
import { heading, legendOf, pairs, stepOf } from "./parts.ts";
import type { Place } from "./place.ts";
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
      if (fact < 0) return averageSheet(result, average as TraceAverage, kind);
      return factSheet(result, facts[fact] as TracedFact, kind);
    },
  });
}

function factSheet(result: Trace, fact: TracedFact, kind: number): Sheet {
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
    ...onOneScale(result, fact.effect, kind),
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
  };
}

function averageSheet(result: Trace, average: TraceAverage, kind: number): Sheet {
  const { classes, facts } = average;
  const of = (held: number[]) => (layer: number, column: number) =>
    held[(kind * result.layers.length + layer) * classes.length + column] ?? Number.NaN;
  const [value, low, high] = [of(average.mean), of(average.low), of(average.high)];
  const known = (figure: number) => (Number.isNaN(figure) ? "–" : signedFigure(figure));
  return {
    ...onOneScale(result, average.mean, kind),
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
  };
}

/** The scale is that of all kinds together, so that they can be compared. */
function onOneScale(
  { kinds }: Trace,
  all: number[],
  kind: number,
): Pick<Sheet, "meaning" | "step" | "figure" | "missing" | "legend"> {
  const low = all.reduce((least, value) => Math.min(least, value || 0), 0);
  const high = all.reduce((most, value) => Math.max(most, value || 0), 0);
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
    ? `Restored: ${kinds[kind]} outputs in a window of ${window} layers.`
    : "Restored: one layer’s output.";
}
