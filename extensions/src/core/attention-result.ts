// Attention patterns as they arrive, and the reading of untrusted data into them.  Called by result.ts.
import {
  type Fields,
  list,
  numbers,
  type PromptRead,
  promptOf,
  record,
  Unreadable,
  type Vocabulary,
  viewOf,
  vocabularyOf,
  whole,
} from "./fields.ts";

const MAX_TOKENS = 4000;
const MAX_HEADS = 20_000;

/** One head; `weights` are bytes (255 is 1), the lower triangle row by row: row `q` has keys 0 to `q`. */
export interface HeadMap {
  layer: number;
  head: number;
  /** Not-a-number where none was computed. */
  effect: number;
  weights: Uint8Array;
}

export interface AttentionPrompt extends PromptRead {
  /** Those that matter most first. */
  maps: HeadMap[];
}

/** What a reader had chosen: a prompt, a head by layer and number, a token. */
export interface AttentionChoice {
  prompt: number;
  head: [number, number] | undefined;
  way: string;
  token: number;
  locked: boolean;
}

export interface AttentionData {
  kind: "attention";
  view: AttentionChoice;
  prompts: AttentionPrompt[];
  words: Vocabulary;
}

export function readAttention(fields: Fields): AttentionData {
  const words = vocabularyOf(fields);
  const prompt = (data: unknown): AttentionPrompt => {
    const held = record(data, "One of its prompts");
    const read = promptOf(held, words, MAX_TOKENS);
    return {
      ...read,
      maps: list(held, "maps", MAX_HEADS).map((map) => readMap(map, read.tokens.length)),
    };
  };
  return {
    kind: "attention",
    view: choiceOf(fields),
    prompts: list(fields, "prompts", 1000).map(prompt),
    words,
  };
}

function choiceOf(fields: Fields): AttentionChoice {
  const { prompt, head, way, token, locked } = viewOf(fields);
  const number = (value: unknown, otherwise: number) => (Number.isInteger(value) ? Number(value) : otherwise);
  const named = Array.isArray(head) && head.length === 2 && head.every(Number.isInteger);
  return {
    prompt: number(prompt, 0),
    head: named ? (head as [number, number]) : undefined,
    way: typeof way === "string" ? way : "",
    token: number(token, -1),
    locked: locked === true,
  };
}

function readMap(data: unknown, count: number): HeadMap {
  const fields = record(data, "One of its heads");
  const [effect] = numbers({ effect: [fields.effect ?? null] }, "effect", 1) as [number];
  return {
    layer: whole(fields, "layer", 0, 10_000),
    head: whole(fields, "head", 0, 10_000),
    effect,
    weights: bytes(fields.weights, (count * (count + 1)) / 2),
  };
}

function bytes(value: unknown, count: number): Uint8Array {
  try {
    if (typeof value === "string") {
      const found = Uint8Array.from(atob(value), (one) => one.charCodeAt(0));
      if (found.length === count) return found;
    }
  } catch {
    // not base 64: said below
  }
  throw new Unreadable(`This result cannot be drawn: the weights of a head are not ${count} bytes.`);
}
