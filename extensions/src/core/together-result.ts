// Several results in one output as they arrive, and the reading of untrusted data into them.  Called by result.ts.
import { type Fields, list, names, numbers, record, Unreadable } from "./fields.ts";

/** More results than this in one output would be read by nobody. */
const MOST = 60;

/** What the results of a series differ in: a setting, and its values in order. */
export interface Axis {
  name: string;
  values: string[];
}

export interface TogetherData {
  kind: "together";
  layout: "beside" | "series";
  axes: Axis[];
  /** For each combination of the axes' values, the last axis fastest, which result it is; -1 where there is none. */
  places: number[];
  results: Fields[];
}

export function readTogether(fields: Fields): TogetherData {
  const results = list(fields, "results", MOST).map((one) => record(one, "One of its results"));
  if (results.some(({ kind }) => kind === "together" || kind === "job" || kind === "comparison")) {
    throw new Unreadable("This result cannot be drawn: it holds results that are no single ones.");
  }
  const layout = fields.layout === "series" ? "series" : "beside";
  if (layout === "beside") return { kind: "together", layout, axes: [], places: [], results };
  const axes = list(fields, "axes", 2).map((data) => {
    const held = record(data, "One of its settings");
    const [name = ""] = names({ name: [held.name] }, "name", 1);
    return { name, values: names(held, "values", MOST) };
  });
  const count = axes.reduce((product, { values }) => product * values.length, 1);
  const places = numbers(fields, "places", count).map((place) => (results[place] === undefined ? -1 : place));
  if (places.every((place) => place < 0)) {
    throw new Unreadable("This result cannot be drawn: none of its results has a place in the series.");
  }
  return { kind: "together", layout, axes, places, results };
}
