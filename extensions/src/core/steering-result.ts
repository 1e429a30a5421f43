// Steering as it arrives, and the reading of untrusted data into it.  Called by result.ts.
import {
  bounded,
  exactly,
  type Fields,
  layersOf,
  line,
  list,
  names,
  numbers,
  type PromptRead,
  promptOf,
  record,
  tokens,
  Unreadable,
  type Vocabulary,
  vocabularyOf,
  whole,
} from "./fields.ts";
import { type MapChoice, mapChoiceOf } from "./maps-result.ts";

/** Texts that a model wrote are longer than tokens, and still no books. */
const MAX_TEXT_CHARACTERS = 20_000;

/** Between what two figures something lies; flat, (metric, layer, strength). */
export interface Between {
  low: number[];
  high: number[];
}

/** One prompt.  Changes are flat, (metric, layer, strength); tokens (layer, strength, top); texts (layer, strength). */
export interface SteeredPrompt extends PromptRead {
  /** Texts of the right and the wrong token, where there are some. */
  answer: [string, string] | undefined;
  unsteered: number[];
  change: number[];
  /** Of random directions of the same length. */
  control: Between | undefined;
  /** (ablation, metric, layer). */
  ablated: number[] | undefined;
  top: number[];
  probability: number[];
  texts: string[] | undefined;
  unsteeredText: string;
}

export interface SteeringData {
  kind: "steering";
  view: MapChoice;
  layers: number[];
  strengths: number[];
  metrics: string[];
  ablations: string[];
  unit: string;
  top: number;
  prompts: SteeredPrompt[];
  mean: ({ mean: number[] } & Between) | undefined;
  words: Vocabulary;
}

interface Size {
  layers: number;
  strengths: number;
  metrics: number;
  ablations: number;
  top: number;
}

export function readSteering(fields: Fields): SteeringData {
  const words = vocabularyOf(fields);
  const layers = layersOf(fields);
  const strengths = numbers(fields, "strengths", list(fields, "strengths", 200).length);
  const metrics = names(fields, "metrics", 50);
  const ablations =
    Array.isArray(fields.ablations) && fields.ablations.length > 0 ? names(fields, "ablations", 10) : [];
  const top = whole(fields, "top", 1, 100);
  const size = {
    layers: layers.length,
    strengths: strengths.length,
    metrics: metrics.length,
    ablations: ablations.length,
    top,
  };
  bounded(size.layers * size.strengths);
  const each = size.metrics * size.layers * size.strengths;
  const mean = fields.mean == null ? undefined : record(fields.mean, "Its mean");
  return {
    kind: "steering",
    view: mapChoiceOf(fields),
    layers,
    strengths,
    metrics,
    ablations,
    unit: line(fields, "unit") ?? "",
    top,
    prompts: list(fields, "prompts", 1000).map((prompt) => readPrompt(prompt, size, words)),
    mean: mean && { mean: numbers(mean, "mean", each), ...between(mean, each) },
    words,
  };
}

function between(data: unknown, count: number): Between {
  const held = record(data, "One of its intervals");
  return { low: numbers(held, "low", count), high: numbers(held, "high", count) };
}

function readPrompt(data: unknown, size: Size, words: Vocabulary): SteeredPrompt {
  const fields = record(data, "One of its prompts");
  const cells = size.layers * size.strengths;
  const each = size.metrics * cells;
  const without = size.ablations * size.metrics * size.layers;
  return {
    ...promptOf(fields, words),
    answer: fields.answer == null ? undefined : (answerOf(fields) as [string, string]),
    unsteered: numbers(fields, "unsteered", size.metrics),
    change: numbers(fields, "change", each),
    control: fields.control == null ? undefined : between(fields.control, each),
    ablated: fields.ablated == null ? undefined : numbers(fields, "ablated", without),
    top: tokens(fields, "top", words, cells * size.top),
    probability: numbers(fields, "probability", cells * size.top),
    texts: fields.texts == null ? undefined : exactly(fields, "texts", cells).map(text),
    unsteeredText: fields.unsteered_text == null ? "" : text(fields.unsteered_text),
  };
}

function answerOf(fields: Fields): string[] {
  exactly(fields, "answer", 2);
  return names(fields, "answer", 2);
}

function text(value: unknown): string {
  if (typeof value === "string" && value.length <= MAX_TEXT_CHARACTERS) return value;
  throw new Unreadable("This result cannot be drawn: one of its texts is no text, or too long a one.");
}
