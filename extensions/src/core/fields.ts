// Reads untrusted data piece by piece; what is not as it should be is a sentence for the reader.  Called by result.ts
// and the readers of single kinds.

/** Longer than any token of any tokenizer; longer text is not a token. */
export const MAX_TOKEN_CHARACTERS = 2000;
const MAX_LINE_CHARACTERS = 20_000;
const MAX_TOKENS = 200_000;
/** More cells than this would freeze a page; Python reduces a result before it comes to this. */
export const MAX_CELLS = 40_000;

/** A result that cannot be drawn; the message is a sentence for the reader. */
export class Unreadable extends Error {}

export type Fields = Record<string, unknown>;

export interface Vocabulary {
  ids: number[];
  texts: string[];
}

export function record(data: unknown, what: string): Fields {
  if (typeof data !== "object" || data === null || Array.isArray(data)) {
    throw new Unreadable(`This result cannot be drawn: ${what.toLowerCase()} is not an object.`);
  }
  return data as Fields;
}

export function line(fields: Fields, name: string): string | undefined {
  const value = fields[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string" || value.length > MAX_LINE_CHARACTERS) {
    throw new Unreadable(`This result cannot be drawn: its ${name} is not a short text.`);
  }
  return value;
}

/** A list of at least one and at most `most` entries. */
export function list(fields: Fields, name: string, most: number): unknown[] {
  const value = fields[name];
  if (!Array.isArray(value) || value.length === 0 || value.length > most) {
    throw new Unreadable(`This result cannot be drawn: its ${name} are no list of 1 to ${most} entries.`);
  }
  return value;
}

/** A list of short texts, at least one. */
export function names(fields: Fields, name: string, most: number): string[] {
  return list(fields, name, most).map((value) => {
    if (typeof value === "string" && value.length <= 200) return value;
    throw new Unreadable(`This result cannot be drawn: its ${name} are not short texts.`);
  });
}

/** Exactly `count` numbers; what is not known (null) is not-a-number. */
export function numbers(fields: Fields, name: string, count: number): number[] {
  const value = fields[name];
  if (!Array.isArray(value) || value.length !== count) {
    throw new Unreadable(`This result cannot be drawn: its ${name} should have ${count} numbers.`);
  }
  return value.map((one) => {
    if (one === null) return Number.NaN;
    if (typeof one === "number" && Number.isFinite(one)) return one;
    throw new Unreadable(`This result cannot be drawn: its ${name} are not numbers.`);
  });
}

/** The numbers of layers, ascending. */
export function layersOf(fields: Fields): number[] {
  const layers = numbers(fields, "layers", list(fields, "layers", 1000).length);
  if (layers.every((layer, at) => Number.isInteger(layer) && layer > (layers[at - 1] ?? -1))) return layers;
  throw new Unreadable("This result cannot be drawn: its layers are not ascending numbers.");
}

export function vocabularyOf(fields: Fields): Vocabulary {
  const held = record(fields.vocabulary, "Its vocabulary");
  const texts = list(held, "texts", MAX_TOKENS).map((text) => {
    if (typeof text === "string" && text.length <= MAX_TOKEN_CHARACTERS) return text;
    throw new Unreadable("This result cannot be drawn: a token has no text, or more than a token has.");
  });
  return { ids: numbers(held, "ids", texts.length), texts };
}

/** Tokens as places in the vocabulary; -1 where there is none. */
export function tokens(fields: Fields, name: string, words: Vocabulary, count?: number): number[] {
  const held = fields[name];
  const length = count ?? (Array.isArray(held) ? held.length : 0);
  return numbers(fields, name, length).map((place) => {
    if (Number.isNaN(place)) return -1;
    if (Number.isInteger(place) && place >= 0 && place < words.texts.length) return place;
    throw new Unreadable(`This result cannot be drawn: its ${name} name tokens that it does not have.`);
  });
}

/** A whole number from `low` to `high`. */
export function whole(fields: Fields, name: string, low: number, high: number): number {
  const value = fields[name];
  if (typeof value === "number" && Number.isInteger(value) && value >= low && value <= high) return value;
  throw new Unreadable(`This result cannot be drawn: its ${name} is not a number from ${low} to ${high}.`);
}

/** One of a result's prompts: its text, whether it begins with BOS (where that is known), and its tokens. */
export interface PromptRead {
  prompt: string;
  bos: boolean | undefined;
  tokens: number[];
}

export function promptOf(fields: Fields, words: Vocabulary, most = MAX_CELLS): PromptRead {
  const count = list(fields, "tokens", most).length;
  return {
    prompt: line(fields, "prompt") ?? "",
    bos: flag(fields.bos),
    tokens: tokens(fields, "tokens", words, count),
  };
}

/** Yes or no; undefined where it is not said. */
export function flag(value: unknown): boolean | undefined {
  return typeof value === "boolean" ? value : undefined;
}

/** A list of exactly `count` entries. */
export function exactly(fields: Fields, name: string, count: number): unknown[] {
  const held = list(fields, name, count);
  if (held.length === count) return held;
  throw new Unreadable(`This result cannot be drawn: it should have ${count} ${name}.`);
}

/** So many cells, if a page can draw them. */
export function bounded(cells: number): number {
  if (cells <= MAX_CELLS) return cells;
  throw new Unreadable(
    `This result cannot be drawn: it has ${cells} cells, and at most ${MAX_CELLS} can be.`,
  );
}

/** What a reader had chosen when the result was kept; nothing in it is trusted to be there. */
export function viewOf(fields: Fields): Fields {
  return record(fields.view ?? {}, "Its view");
}
