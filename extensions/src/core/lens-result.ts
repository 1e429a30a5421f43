// The logit lens as it arrives, and the reading of untrusted data into it.  Called by result.ts.
import {
  type Fields,
  layersOf,
  line,
  list,
  numbers,
  record,
  tokens,
  Unreadable,
  type Vocabulary,
  vocabularyOf,
  whole,
} from "./fields.ts";

/** More cells than this would freeze a page; Python reduces a result before it comes to this. */
export const MAX_CELLS = 40_000;

/** One prompt's statistics.  Arrays are flat: (layer, position), (layer, position, top) or (layer, position, target). */
export interface LensPrompt {
  prompt: string;
  bos: boolean | undefined;
  tokens: number[];
  top: number[];
  probability: number[];
  entropy: number[];
  kl: number[];
  next: number[];
  targetProbability: number[];
  targetRank: number[];
  targetLogit: number[];
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
  view: { metric: string; pins: number[] };
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
    view: readView(fields.view ?? {}, words),
  };
}

function readPrompt(
  data: unknown,
  size: { layers: number; top: number; targets: number },
  words: Vocabulary,
): LensPrompt {
  const fields = record(data, "One of its prompts");
  const positions = list(fields, "tokens", MAX_CELLS).length;
  const cells = size.layers * positions;
  if (cells > MAX_CELLS || cells * (size.top + size.targets) > 50 * MAX_CELLS) {
    throw new Unreadable(
      `This result cannot be drawn: it has ${cells} cells, and at most ${MAX_CELLS} can be.`,
    );
  }
  const figures = (name: string, each: number) => numbers(fields, name, cells * each);
  return {
    prompt: line(fields, "prompt") ?? "",
    bos: typeof fields.bos === "boolean" ? fields.bos : undefined,
    tokens: tokens(fields, "tokens", words),
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
function readView(data: unknown, words: Vocabulary): LensData["view"] {
  const fields = record(data, "Its view");
  const pinned = Array.isArray(fields.pins) ? fields.pins.slice(0, 100) : [];
  return {
    metric: line(fields, "metric") ?? "",
    pins: pinned.map((id) => words.ids.indexOf(id as number)).filter((place) => place >= 0),
  };
}
