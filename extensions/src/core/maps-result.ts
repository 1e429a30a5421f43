// Maps of effects (activation patching, causal trace) as they arrive, and the reading of untrusted data into them.
// Called by result.ts.
import {
  bounded,
  exactly,
  type Fields,
  flag,
  layersOf,
  line,
  list,
  MAX_CELLS,
  names,
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

/** Numbers of each site, flat: (metric, layer, position, part). */
export type BySite = Record<string, number[]>;

export interface Site {
  name: string;
  /** What there are several of at each position ("head", "group"); undefined where there is one. */
  part: string | undefined;
  parts: number;
}

/** One direction of one pair: `clean`, `corrupt` and `defined` by metric. */
export interface PatchRun {
  tokens: number[];
  /** Positions with a counterpart in the other prompt, and those of them where that is another token. */
  aligned: Set<number>;
  differs: Set<number>;
  clean: number[];
  corrupt: number[];
  defined: boolean[];
  values: BySite;
}

/** Mean effects over pairs in one direction, with their interval. */
export interface MeanRun {
  positions: number;
  mean: BySite;
  low: BySite;
  high: BySite;
}

export interface PatchPair {
  clean: string;
  corrupt: string;
  bos: boolean | undefined;
  answer: [number, number];
  runs: PatchRun[];
}

/** What a reader had chosen of a map: of the list, of each switch by name, and the pinned cell by layer and column. */
export interface MapChoice {
  sheet: number;
  switches: Record<string, string>;
  place: number;
  pin: [number, number] | undefined;
}

export function mapChoiceOf(fields: Fields): MapChoice {
  const { sheet, switches, place, pin } = viewOf(fields);
  const chosen = typeof switches === "object" && switches !== null ? Object.entries(switches) : [];
  const pinned = Array.isArray(pin) && pin.length === 2 && pin.every(Number.isInteger);
  return {
    sheet: Number.isInteger(sheet) ? Number(sheet) : 0,
    switches: Object.fromEntries(chosen.filter(([, name]) => typeof name === "string")),
    place: Number.isInteger(place) ? Number(place) : -1,
    pin: pinned ? (pin as [number, number]) : undefined,
  };
}

export interface PatchingData {
  kind: "activation_patching";
  view: MapChoice;
  layers: number[];
  directions: string[];
  metrics: string[];
  sites: Site[];
  together: boolean;
  /** Where patches went on their way to the logits; undefined where they went every way. */
  path: string | undefined;
  /** What is to be known of estimates; undefined where effects are exact. */
  approximate: string | undefined;
  pairs: PatchPair[];
  mean: MeanRun[] | undefined;
  words: Vocabulary;
}

export function readPatching(fields: Fields): PatchingData {
  const layers = layersOf(fields);
  const words = vocabularyOf(fields);
  const directions = names(fields, "directions", 2);
  const metrics = names(fields, "metrics", 20);
  const sites = list(fields, "sites", 20).map(readSite);
  const by = (data: unknown, name: string, positions: number): BySite => {
    const held = record(data, `Its ${name}`);
    const cells = bounded(layers.length * positions * Math.max(...sites.map(({ parts }) => parts)));
    const each = cells / Math.max(...sites.map(({ parts }) => parts));
    return Object.fromEntries(
      sites.map((site) => [site.name, numbers(held, site.name, metrics.length * each * site.parts)]),
    );
  };
  const run = (data: unknown): PatchRun => {
    const held = record(data, "One of its runs");
    const read = tokens(held, "tokens", words, list(held, "tokens", MAX_CELLS).length);
    const { aligned, differs, defined } = held;
    const positions = (some: unknown) =>
      new Set<number>(Array.isArray(some) ? some.filter(Number.isInteger) : []);
    return {
      tokens: read,
      aligned: positions(aligned),
      differs: positions(differs),
      clean: numbers(held, "clean", metrics.length),
      corrupt: numbers(held, "corrupt", metrics.length),
      defined: metrics.map((_, n) => Array.isArray(defined) && defined[n] === true),
      values: by(held.values, "values", read.length),
    };
  };
  const pair = (data: unknown): PatchPair => {
    const held = record(data, "One of its pairs");
    return {
      clean: line(held, "clean") ?? "",
      corrupt: line(held, "corrupt") ?? "",
      bos: flag(held.bos),
      answer: tokens(held, "answer", words, 2) as [number, number],
      runs: exactly(held, "runs", directions.length).map(run),
    };
  };
  const mean = (data: unknown): MeanRun => {
    const held = record(data, "One of its means");
    const positions = whole(held, "positions", 1, MAX_CELLS);
    const [middle, low, high] = ["mean", "low", "high"].map((name) => by(held[name], name, positions));
    return { positions, mean: middle as BySite, low: low as BySite, high: high as BySite };
  };
  return {
    kind: "activation_patching",
    view: mapChoiceOf(fields),
    layers,
    directions,
    metrics,
    sites,
    together: fields.together === true,
    path: line(fields, "path"),
    approximate: line(fields, "approximate"),
    pairs: list(fields, "pairs", 1000).map(pair),
    mean: fields.mean == null ? undefined : exactly(fields, "mean", directions.length).map(mean),
    words,
  };
}

function readSite(data: unknown): Site {
  const fields = record(data, "One of its sites");
  const [name] = names({ name: [fields.name] }, "name", 1) as [string];
  return { name, part: line(fields, "part"), parts: whole(fields, "parts", 1, 1000) };
}

/** One fact; `effect` and `spread` are flat, (kind, layer, position). */
export interface TracedFact extends PromptRead {
  corrupt: string | undefined;
  subject: [number, number];
  answer: number;
  clean: number;
  corrupted: number;
  effect: number[];
  spread: number[];
}

/** Mean over facts by what a token is to the subject, with its interval; flat, (kind, layer, class). */
export interface TraceAverage {
  classes: string[];
  facts: number[];
  mean: number[];
  low: number[];
  high: number[];
}

export interface TraceData {
  kind: "causal_trace";
  view: MapChoice;
  layers: number[];
  kinds: string[];
  window: number;
  facts: TracedFact[];
  average: TraceAverage | undefined;
  words: Vocabulary;
}

export function readTrace(fields: Fields): TraceData {
  const layers = layersOf(fields);
  const words = vocabularyOf(fields);
  const kinds = names(fields, "kinds", 10);
  const fact = (data: unknown): TracedFact => {
    const held = record(data, "One of its facts");
    const read = promptOf(held, words);
    const cells = bounded(layers.length * read.tokens.length) * kinds.length;
    const [clean, corrupted] = numbers({ base: [held.clean, held.corrupted] }, "base", 2) as [number, number];
    return {
      ...read,
      corrupt: line(held, "corrupt"),
      subject: numbers(held, "subject", 2) as [number, number],
      answer: tokens({ answer: [held.answer] }, "answer", words, 1)[0] as number,
      clean,
      corrupted,
      effect: numbers(held, "effect", cells),
      spread: numbers(held, "spread", cells),
    };
  };
  return {
    kind: "causal_trace",
    view: mapChoiceOf(fields),
    layers,
    kinds,
    window: whole(fields, "window", 1, 10_000),
    facts: list(fields, "facts", 1000).map(fact),
    average: fields.average == null ? undefined : readAverage(fields.average, kinds.length * layers.length),
    words,
  };
}

function readAverage(data: unknown, rows: number): TraceAverage {
  const fields = record(data, "Its average");
  const classes = names(fields, "classes", 20);
  return {
    classes,
    facts: numbers(fields, "facts", classes.length),
    mean: numbers(fields, "mean", rows * classes.length),
    low: numbers(fields, "low", rows * classes.length),
    high: numbers(fields, "high", rows * classes.length),
  };
}
