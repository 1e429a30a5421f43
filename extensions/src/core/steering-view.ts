// Draws steering: what a direction does to a metric, by layer and strength, beside random directions and what was written.
// Called by draw.ts.
import { element } from "./dom.ts";
import { type Chosen, drawMap, type Sheet } from "./map-view.ts";
import { bars, heading, legendOf, pairs } from "./parts.ts";
import type { Place } from "./place.ts";
import { type Line, plot } from "./plot.ts";
import type { Steering } from "./result.ts";
import { DIVERGING, diverging } from "./scale.ts";
import type { SteeredPrompt } from "./steering-result.ts";
import { probabilityFigure, signedFigure, visibleLine, visibleToken, wordOf } from "./text.ts";

export function drawSteering(result: Steering, place: Place): HTMLElement {
  const { prompts, mean, metrics } = result;
  const listed = prompts.map(({ prompt }, n) => `${n + 1}: ${prompt}`);
  return drawMap({
    result,
    place,
    layers: result.layers,
    list: { label: "prompt", names: mean === undefined ? listed : ["mean of all prompts", ...listed] },
    switches: [{ label: "metric", names: metrics.map((name) => name.replaceAll("_", " ")) }],
    sheet: (chosen) => {
      const at = chosen.sheet - (mean === undefined ? 0 : 1);
      return at < 0 ? meanSheet(result, chosen, place) : promptSheet(result, chosen, place, at);
    },
  });
}

/** Where the figures of a metric stand: (metric, layer, strength). */
function indexOf({ layers, strengths }: Steering, metric: number): (layer: number, column: number) => number {
  return (layer, column) => (metric * layers.length + layer) * strengths.length + column;
}

function promptSheet(result: Steering, chosen: Chosen, place: Place, at: number): Sheet {
  const prompt = result.prompts[at] as SteeredPrompt;
  const metric = chosen.switches[0] ?? 0;
  const index = indexOf(result, metric);
  const { strengths, layers, ablations } = result;
  const columns = [...strengthHeads(result), ...ablationHeads(result, prompt)];
  const value = (layer: number, column: number): number => {
    if (column < strengths.length) return prompt.change[index(layer, column)] ?? Number.NaN;
    const row = (column - strengths.length) * result.metrics.length + metric;
    return prompt.ablated?.[row * layers.length + layer] ?? Number.NaN;
  };
  const words = wordsOf(result, metric);
  const before = prompt.unsteered[metric] as number;
  const bos = prompt.bos === undefined ? [] : [prompt.bos ? "BOS" : "no BOS"];
  return finish(result, chosen, place, {
    columns,
    origin: [...bos, `“${visibleLine(prompt.prompt)}”`].join(" · "),
    value,
    about: () => [
      heading("Unsteered"),
      pairs([[words, plain(words, before)]]),
      element("p", { class: "edif-note", text: `${meant(prompt)} Colour: change from there.` }),
    ],
    detail: (layer, column) => ({
      name: `${columns[column]?.text} · layer ${layers[layer]}`,
      figures: [
        [`change of ${words}`, known(value(layer, column))],
        [words, plain(words, before + value(layer, column))],
      ],
    }),
    more: (layer, column) => [
      ...byStrength(
        result,
        layer,
        words,
        {
          name: "steered",
          look: "blue",
          values: strengths.map((_, n) => value(layer, n)),
        },
        prompt.control && {
          low: strengths.map((_, n) => prompt.control?.low[index(layer, n)] ?? Number.NaN),
          high: strengths.map((_, n) => prompt.control?.high[index(layer, n)] ?? Number.NaN),
        },
      ),
      ...(column < strengths.length ? saidAt(result, prompt, layer, column) : []),
    ],
    ablations,
  });
}

function meanSheet(result: Steering, chosen: Chosen, place: Place): Sheet {
  const metric = chosen.switches[0] ?? 0;
  const index = indexOf(result, metric);
  const held = result.mean as NonNullable<Steering["mean"]>;
  const of = (figures: number[]) => (layer: number, column: number) =>
    figures[index(layer, column)] ?? Number.NaN;
  const [value, low, high] = [of(held.mean), of(held.low), of(held.high)];
  const columns = strengthHeads(result);
  const words = wordsOf(result, metric);
  const along = (figure: Sheet["value"], layer: number): number[] =>
    result.strengths.map((_, n) => figure(layer, n));
  return finish(result, chosen, place, {
    columns,
    origin: `mean over ${result.prompts.length} prompts`,
    value,
    about: () => [
      heading("Mean over prompts"),
      element("p", {
        class: "edif-note",
        text: "Change from unsteered; interval of 95 %, by resampling prompts.",
      }),
    ],
    detail: (layer, column) => ({
      name: `${columns[column]?.text} · layer ${result.layers[layer]}`,
      figures: [
        [`mean change of ${words}`, known(value(layer, column))],
        ["from", known(low(layer, column))],
        ["to", known(high(layer, column))],
      ],
    }),
    more: (layer) =>
      byStrength(
        result,
        layer,
        words,
        {
          name: "mean",
          look: "blue",
          values: along(value, layer),
          band: { low: along(low, layer), high: along(high, layer) },
        },
        undefined,
      ),
    ablations: [],
  });
}

type Own = Pick<Sheet, "columns" | "origin" | "value" | "about" | "detail" | "more"> & {
  ablations: string[];
};

function finish(result: Steering, chosen: Chosen, { scale }: Place, { ablations, ...own }: Own): Sheet {
  const words = wordsOf(result, chosen.switches[0] ?? 0);
  let extent = 0;
  for (const layer of result.layers.keys()) {
    for (const column of own.columns.keys())
      extent = Math.max(extent, Math.abs(own.value(layer, column)) || 0);
  }
  const most = scale?.most(words, extent) ?? (extent || 1);
  const taken = ablations.length > 0 ? "; at the right the direction taken out" : "";
  const meaning = `change of ${words} by strength, in ${visibleLine(result.unit)}${taken}`;
  return {
    ...own,
    meaning,
    written: true,
    step: (value) => diverging(value, most),
    figure: signedFigure,
    missing: () => "not known",
    legend: () => legendOf(DIVERGING, signedFigure(-most), signedFigure(most), meaning),
  };
}

function strengthHeads({ strengths }: Steering): Sheet["columns"] {
  return strengths.map((strength) => ({ text: strengthOf(strength) }));
}

function ablationHeads({ ablations }: Steering, { ablated }: SteeredPrompt): Sheet["columns"] {
  return ablated === undefined ? [] : ablations.map((name) => ({ text: `out ${visibleLine(name)}` }));
}

function strengthOf(strength: number): string {
  return strength === 0 ? "0" : `${strength > 0 ? "+" : "−"}${Math.abs(strength)}`;
}

/** The change at one layer over strengths; between the dashed lines are random directions of the same length. */
function byStrength(
  { strengths, layers }: Steering,
  layer: number,
  words: string,
  own: Line,
  control: Line["band"],
): Node[] {
  if (strengths.length < 2) return [];
  const order = strengths
    .map((_, n) => n)
    .sort((a, b) => (strengths[a] as number) - (strengths[b] as number));
  const sorted = (values: number[]): number[] => order.map((n) => values[n] as number);
  const arranged = ({ band, values, ...line }: Line): Line => ({
    ...line,
    values: sorted(values),
    ...(band && { band: { low: sorted(band.low), high: sorted(band.high) } }),
  });
  const nothing = strengths.map(() => Number.NaN);
  const lines = [arranged(own)];
  if (control !== undefined) {
    lines.push(arranged({ name: "random directions", look: "muted", values: nothing, band: control }));
  }
  const [least, most] = [order[0] as number, order.at(-1) as number].map((n) =>
    strengthOf(strengths[n] as number),
  );
  return [
    heading(`Layer ${layers[layer]}, by strength`),
    plot({
      lines,
      x: sorted(strengths),
      ends: [least as string, most as string],
      figure: signedFigure,
      what: `change of ${words} at layer ${layers[layer]} by strength`,
    }),
  ];
}

/** What the model says there: most probable tokens, and the text where one was written. */
function saidAt(result: Steering, prompt: SteeredPrompt, layer: number, column: number): Node[] {
  const cell = layer * result.strengths.length + column;
  const ranks = Array.from({ length: Math.min(3, result.top) }, (_, rank) => cell * result.top + rank);
  const entries = ranks.map((at) => {
    const part = prompt.probability[at] as number;
    return { text: wordOf(result.words, prompt.top[at] as number), part, figure: probabilityFigure(part) };
  });
  const nodes: Node[] = [heading("Says next"), bars(entries)];
  const text = prompt.texts?.[cell];
  if (text !== undefined) nodes.push(heading("Writes"), written(text));
  if (prompt.unsteeredText !== "") nodes.push(heading("Unsteered it writes"), written(prompt.unsteeredText));
  return nodes;
}

function written(text: string): HTMLElement {
  return element("p", { class: "edif-said", text: visibleLine(text), attributes: { dir: "auto" } });
}

function meant({ answer }: SteeredPrompt): string {
  if (answer === undefined) return "";
  return `Answer ${visibleToken(answer[0])}, against ${visibleToken(answer[1])}.`;
}

function wordsOf({ metrics }: Steering, metric: number): string {
  return (metrics[metric] ?? "").replaceAll("_", " ");
}

/** The metric itself, as it is read. */
function plain(words: string, value: number): string {
  if (Number.isNaN(value)) return "–";
  return words === "probability" || words === "kl" ? probabilityFigure(value) : signedFigure(value);
}

function known(value: number): string {
  return Number.isNaN(value) ? "–" : signedFigure(value);
}
