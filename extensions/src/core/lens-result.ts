// The logit lens as it arrives, and the reading of untrusted data into it.  Called by result.ts.
import {
  bounded,
  type Fields,
  layersOf,
  line,
  list,
  numbers,
  type PromptRead,
  promptOf,
  record,
  tokens,
  type Vocabulary,
  viewOf,
  vocabularyOf,
  whole,
} from "./fields.ts";

/** One prompt's statistics.  Arrays are flat: (layer, position), (layer, position, top) or (layer, position, target). */
export interface LensPrompt extends PromptRead {
  top: number[];
  probability: number[];
  entropy: number[];
  kl: number[];
  next: number[];
  targetProbability: number[];
  targetRank: number[];
  targetLogit: number[];
}

/** Tokens kept in a cell, on the average over a whole lens. */
const MOST_IN_A_CELL = 50;

/** Pins are places in the vocabulary, `shown` are numbers of layers; undefined where the reader has not chosen. */
export interface LensChoice {
  metric: string;
  pins: number[];
  /** Of pins, those that are followed as one. */
  groups: number[][];
  /** Numbers of layers that are pinned. */
  rows: number[];
  prompt: number;
  shown: number[] | undefined;
}

export interface LensData {
  kind: "logit_lens";
  layers: number[];
  /** Whether the last layer here is the model's last one, so that it says what the model says. */
  final: boolean;
  top: number;
  targets: number[];
  words: Vocabulary;
  prompts: LensPrompt[];
  /** What the reader had chosen and pinned when the result was kept. */
  view: LensChoice;
}

export function readLens(fields: Fields): LensData {
  const layers = layersOf(fields);
  const words = vocabularyOf(fields);
  const top = whole(fields, "top", 1, 100);
  const targets = tokens(fields, "targets", words);
  const size = { layers: layers.length, top, targets: targets.length };
  return {
    kind: "logit_lens",
    layers,
    final: fields.final === true,
    top,
    targets,
    words,
    prompts: list(fields, "prompts", 1000).map((prompt) => readPrompt(prompt, size, words)),
    view: readView(viewOf(fields), words),
  };
}

function readPrompt(
  data: unknown,
  size: { layers: number; top: number; targets: number },
  words: Vocabulary,
): LensPrompt {
  const fields = record(data, "One of its prompts");
  const read = promptOf(fields, words);
  const cells = bounded(size.layers * read.tokens.length);
  bounded(Math.ceil((cells * (size.top + size.targets)) / MOST_IN_A_CELL));
  const figures = (name: string, each: number) => numbers(fields, name, cells * each);
  return {
    ...read,
    top: tokens(fields, "top", words, cells * size.top),
    probability: figures("probability", size.top),
    entropy: figures("entropy", 1),
    kl: figures("kl", 1),
    next: figures("next", 1),
    targetProbability: figures("target_probability", size.targets),
    targetRank: figures("target_rank", size.targets),
    targetLogit: figures("target_logit", size.targets),
  };
}

/** Pins are ids of tokens; those that this output does not show are left out. */
function readView(fields: Fields, words: Vocabulary): LensChoice {
  const placesOf = (ids: unknown): number[] =>
    (Array.isArray(ids) ? ids.slice(0, 100) : [])
      .map((id) => words.ids.indexOf(id as number))
      .filter((place) => place >= 0);
  const groups = Array.isArray(fields.groups) ? fields.groups.slice(0, 100) : [];
  return {
    prompt: Number.isInteger(fields.prompt) ? Number(fields.prompt) : 0,
    shown: Array.isArray(fields.layers) ? fields.layers.filter(Number.isInteger) : undefined,
    metric: line(fields, "metric") ?? "",
    pins: placesOf(fields.pins),
    groups: groups.map(placesOf),
    rows: Array.isArray(fields.rows) ? fields.rows.filter(Number.isInteger).slice(0, 1000) : [],
  };
}
