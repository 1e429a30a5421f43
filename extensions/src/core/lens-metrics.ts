// The figures of a logit lens that its cells can be coloured by.  Called by lens.ts.
import { legendOf, stepOf } from "./parts.ts";
import type { OneScale } from "./place.ts";
import type { Lens } from "./result.ts";
import { DIVERGING, diverging, SEQUENTIAL } from "./scale.ts";
import { logitFigure, probabilityFigure, wordOf } from "./text.ts";

export interface Metric {
  name: string;
  /** The figure of a cell, (layer, position) as one number; not-a-number where it is not known. */
  value: (cell: number) => number;
  step: (value: number) => string;
  figure: (value: number) => string;
  legend: () => Node[];
}

type Show = Pick<Metric, "figure"> & { meaning: string };

/** The end of a metric's scale, given what is largest here. */
type End = (name: string, own: number) => number;

/** All metrics that one prompt of a lens has figures for; on `scale` where others share it. */
export function metricsOf(lens: Lens, at: number, scale?: OneScale): Metric[] {
  const end: End = (name, own) => scale?.most(name, own) ?? own;
  const prompt = lens.prompts[at] as Lens["prompts"][number];
  const count = prompt.entropy.length;
  const nats = { figure: (value: number) => value.toFixed(2) };
  const followed = lens.targets.map((place) => wordOf(lens.words, place));
  const metrics = [
    upTo1(
      "probability",
      (cell) => prompt.probability[cell * lens.top] as number,
      "probability of the top token",
    ),
    rank(lens, at, count, end),
    upToMost("entropy", prompt.entropy, end, { ...nats, meaning: "entropy, nats" }),
    upToMost("KL to final", prompt.kl, end, {
      ...nats,
      meaning: "KL of the final distribution from the layer’s, nats",
    }),
    upToMost("next token", prompt.next, end, {
      ...nats,
      meaning: "cross-entropy of the prompt’s own next token, nats",
    }),
  ];
  const each = lens.targets.length;
  if (each > 1) metrics.push(difference(prompt.targetLogit, each, followed, end));
  if (each > 0) {
    const name = `p(${followed[0]})`;
    metrics.push(
      upTo1(name, (cell) => prompt.targetProbability[cell * each] as number, `probability of ${followed[0]}`),
    );
  }
  // a metric without a single figure is none: next tokens of one word, what a comparison does not know
  const cells = Array.from({ length: count }, (_, cell) => cell);
  return metrics.filter((metric, n) => n === 0 || cells.some((cell) => !Number.isNaN(metric.value(cell))));
}

function upTo1(name: string, value: Metric["value"], meaning: string): Metric {
  return {
    name,
    value,
    step: (figure) => stepOf(figure, 0, 1),
    figure: probabilityFigure,
    legend: () => legendOf(SEQUENTIAL, "0", "1", meaning),
  };
}

function upToMost(name: string, values: number[], end: End, { figure, meaning }: Show): Metric {
  const own = values.reduce((high, value) => Math.max(high, value || 0), 0);
  const most = (): number => end(name, own);
  return {
    name,
    value: (cell) => values[cell] as number,
    step: (value) => stepOf(value, 0, most()),
    figure,
    legend: () => legendOf(SEQUENTIAL, "0", figure(most()), meaning),
  };
}

/** Of the first followed token, exact; without one, of what the model says at last, as far as the top tokens tell. */
function rank(lens: Lens, at: number, count: number, end: End): Metric {
  const prompt = lens.prompts[at] as Lens["prompts"][number];
  const each = lens.targets.length;
  const value = (cell: number): number =>
    each > 0 ? (prompt.targetRank[cell * each] as number) : rankOfFinal(lens, at, cell);
  const beyond = lens.top + 1;
  let own = each > 0 ? 2 : beyond;
  for (let cell = 0; cell < count && each > 0; cell++) own = Math.max(own, value(cell) || 0);
  const most = (): number => end("rank", own);
  const figure = (found: number): string =>
    each === 0 && found === beyond ? `> ${lens.top}` : found.toLocaleString("en");
  const of = each > 0 ? wordOf(lens.words, lens.targets[0] as number) : "the final prediction";
  return {
    name: "rank",
    value,
    step: (found) => stepOf(-Math.log(found), -Math.log(most()), 0),
    figure,
    legend: () => legendOf(SEQUENTIAL, figure(most()), "1", `rank of ${of}, logarithmic`),
  };
}

/** The place, from 1, of the final prediction among a cell's top tokens; one more than there are if it is not there. */
function rankOfFinal(lens: Lens, at: number, cell: number): number {
  const prompt = lens.prompts[at] as Lens["prompts"][number];
  const positions = prompt.tokens.length;
  if (!lens.final) return Number.NaN;
  const last = ((lens.layers.length - 1) * positions + (cell % positions)) * lens.top;
  const found = prompt.top.slice(cell * lens.top, (cell + 1) * lens.top).indexOf(prompt.top[last] as number);
  return found < 0 ? lens.top + 1 : found + 1;
}

function difference(logits: number[], each: number, followed: string[], end: End): Metric {
  const value = (cell: number): number =>
    (logits[cell * each] as number) - (logits[cell * each + 1] as number);
  let own = 0;
  for (let cell = 0; cell < logits.length / each; cell++) own = Math.max(own, Math.abs(value(cell)) || 0);
  const most = (): number => end("Δ logit", own);
  const meaning = `logit of ${followed[0]} minus logit of ${followed[1]}`;
  return {
    name: "Δ logit",
    value,
    step: (found) => diverging(found, most()),
    figure: logitFigure,
    legend: () => legendOf(DIVERGING, logitFigure(-most()), `+${logitFigure(most())}`, meaning),
  };
}
