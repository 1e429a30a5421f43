// Draws two models compared: where they agree, by depth and token, and below it what each of them says, as two lenses on
// one scale.  Called by draw.ts.
import { element } from "./dom.ts";
import { type Chosen, drawMap, type Sheet } from "./map-view.ts";
import { heading, legendOf, stepOf } from "./parts.ts";
import type { Place } from "./place.ts";
import { plot } from "./plot.ts";
import type { Comparison } from "./result.ts";
import { DIVERGING, diverging, SEQUENTIAL } from "./scale.ts";
import { probabilityFigure, signedFigure, visibleLine, visibleToken } from "./text.ts";

/** What figures mean; those that are not here are named by themselves. */
const MEANS: Record<string, string> = {
  kl: "KL of the first model from the second, nats",
  kl_back: "KL of the second model from the first, nats",
  same_top: "whether both say the same",
  overlap: "share of the most probable tokens that both have",
  rank_correlation: "rank correlation of the most probable tokens (Spearman)",
};

/** `beside` draws what each model says. */
export function drawComparison(result: Comparison, place: Place, beside: () => HTMLElement): HTMLElement {
  const map = drawMap({
    result,
    place,
    layers: result.layers.map((_, depth) => depth),
    names: result.layers.map(([one, other]) => (one === other ? String(one) : `${one} / ${other}`)),
    list: { label: "prompt", names: result.prompts.map(({ prompt }, n) => `${n + 1}: ${prompt}`) },
    switches: [{ label: "figure", names: result.figures.map(named) }],
    sheet: (chosen) => sheetOf(result, chosen),
  });
  if (result.sides.length === 0) return map;
  return element("div", { class: "edif-several" }, map, beside());
}

function named(figure: string): string {
  return figure.replaceAll("_", " ");
}

function sheetOf(result: Comparison, { sheet, switches: [figure = 0] }: Chosen): Sheet {
  const { prompts, figures, layers } = result;
  const prompt = prompts[sheet] as Comparison["prompts"][number];
  const name = figures[figure] as string;
  const count = prompt.tokens.length;
  const of = (one: string) => (depth: number, column: number) =>
    prompt.values[one]?.[depth * count + column] ?? Number.NaN;
  const value = of(name);
  const columns = prompt.tokens.map((text) => ({ text: visibleToken(text) }));
  const meaning = MEANS[name] ?? named(name);
  return {
    columns,
    origin: `“${visibleLine(prompt.prompt)}”`,
    meaning,
    value,
    ...scaleOf(name, prompt.values[name] ?? [], meaning),
    missing: () => "not known",
    about: () => [
      heading("Layers of equal depth"),
      element("p", {
        class: "edif-note",
        text: `${result.models.map(visibleLine).join(" against ")}; ${layers.length} pairs of layers.`,
      }),
    ],
    detail: (depth, column) => ({
      name: `${columns[column]?.text} · layers ${layers[depth]?.join(" and ")}`,
      figures: figures.map((one) => [named(one), figureOf(one, of(one)(depth, column))]),
    }),
    more: () => byDepth(result, name, meaning),
  };
}

/** Divergences from 0 to the largest, shares from 0 to 1, correlations about 0. */
function scaleOf(name: string, values: number[], meaning: string): Pick<Sheet, "step" | "figure" | "legend"> {
  const figure = (value: number): string => figureOf(name, value);
  if (name === "rank_correlation")
    return {
      figure,
      step: (value) => diverging(value, 1),
      legend: () => legendOf(DIVERGING, "−1", "+1", meaning),
    };
  const shared = name === "same_top" || name === "overlap";
  const most = shared ? 1 : values.reduce((high, value) => Math.max(high, value || 0), 0);
  return {
    figure,
    step: (value) => stepOf(value, 0, most),
    legend: () => legendOf(SEQUENTIAL, "0", shared ? "1" : figure(most), meaning),
  };
}

function figureOf(name: string, value: number): string {
  if (Number.isNaN(value)) return "–";
  if (name === "same_top") return value === 0 ? "no" : value === 1 ? "yes" : value.toFixed(2);
  return name === "rank_correlation" ? signedFigure(value) : probabilityFigure(value);
}

function byDepth({ mean, layers, prompts }: Comparison, name: string, meaning: string): Node[] {
  const { mean: values, low, high } = mean[name] as Comparison["mean"][string];
  const over = prompts.length > 1 ? "prompts" : "tokens";
  const [first, last] = [layers[0], layers.at(-1)] as [[number, number], [number, number]];
  return [
    heading(`Mean over ${over} by depth (95 %)`),
    plot({
      lines: [{ name: named(name), look: "blue", values, band: { low, high } }],
      x: layers.map((_, depth) => depth),
      ends: [`layers ${first.join(" / ")}`, last.join(" / ")],
      figure: (value) => (name === "rank_correlation" ? signedFigure(value) : value.toFixed(2)),
      what: `${meaning}, mean by depth`,
    }),
  ];
}
