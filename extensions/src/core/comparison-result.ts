// Two models compared as it arrives, and the reading of untrusted data into it.  Called by result.ts.
import {
  bounded,
  exactly,
  type Fields,
  line,
  list,
  MAX_CELLS,
  names,
  numbers,
  record,
  Unreadable,
} from "./fields.ts";
import { type MapChoice, mapChoiceOf } from "./maps-result.ts";
import type { Interval } from "./probe-result.ts";

/** Agreement on one prompt; figures by name, flat, (depth, place). */
export interface ComparedPrompt {
  prompt: string;
  tokens: string[];
  values: Record<string, number[]>;
}

export interface ComparisonData {
  kind: "comparison";
  view: MapChoice;
  models: string[];
  /** Layers of the first and of the second model, by depth. */
  layers: [number, number][];
  figures: string[];
  prompts: ComparedPrompt[];
  /** By figure, over prompts, (depth). */
  mean: Record<string, Interval>;
  /** What each model says, as results of their own: two lenses, one where the other was not read, or none. */
  sides: Fields[];
}

export function readComparison(fields: Fields): ComparisonData {
  const layers = list(fields, "layers", 1000).map(
    (pair) => numbers({ layers: pair }, "layers", 2) as [number, number],
  );
  const figures = names(fields, "figures", 20);
  const means = record(fields.mean, "Its mean");
  const by = <T>(make: (name: string) => T): Record<string, T> =>
    Object.fromEntries(figures.map((name) => [name, make(name)]));
  const prompt = (data: unknown): ComparedPrompt => {
    const held = record(data, "One of its prompts");
    const tokens = list(held, "tokens", MAX_CELLS).map(
      (text) => names({ tokens: [text] }, "tokens", 1)[0] ?? "",
    );
    const cells = bounded(layers.length * tokens.length);
    const values = record(held.values, "Its figures");
    return { prompt: line(held, "prompt") ?? "", tokens, values: by((name) => numbers(values, name, cells)) };
  };
  return {
    kind: "comparison",
    view: mapChoiceOf(fields),
    models: exactly(fields, "models", 2).map((name) => names({ models: [name] }, "models", 1)[0] ?? ""),
    layers,
    figures,
    prompts: list(fields, "prompts", 1000).map(prompt),
    mean: by((name) => {
      const held = record(means[name], "One of its means");
      const of = (part: string): number[] => numbers(held, part, layers.length);
      return { mean: of("mean"), low: of("low"), high: of("high") };
    }),
    sides: Array.isArray(fields.sides) && fields.sides.length <= 2 ? fields.sides.map(sideOf) : [],
  };
}

/** What one model says: a lens and nothing else, so that no result holds another without end. */
function sideOf(data: unknown): Fields {
  const side = record(data, "One of its sides");
  if (side.kind === "logit_lens") return side;
  throw new Unreadable("This result cannot be drawn: one of its sides is no lens.");
}
