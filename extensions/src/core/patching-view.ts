// Draws activation patching: effects on a scale about zero, by site, direction and metric.  Called by draw.ts.
import { element } from "./dom.ts";
import { type Chosen, drawMap, type Next, type Sheet } from "./map-view.ts";
import type { PatchRun, Site } from "./maps-result.ts";
import { heading, legendOf, pairs } from "./parts.ts";
import type { Place } from "./place.ts";
import { plot } from "./plot.ts";
import type { Patching } from "./result.ts";
import { DIVERGING, diverging } from "./scale.ts";
import { probabilityFigure, signedFigure, visibleLine, wordOf } from "./text.ts";

const MEANS: Record<string, string> = {
  denoise: "Clean into corrupt: what is sufficient.",
  noise: "Corrupt into clean: what is necessary.",
};

export function drawPatching(result: Patching, place: Place): HTMLElement {
  const { sites, directions, metrics, mean } = result;
  const listed = result.pairs.map(({ clean, corrupt }, n) => `${n + 1}: ${clean} / ${corrupt}`);
  return drawMap({
    result,
    place,
    layers: result.layers,
    list: { label: "pair", names: mean === undefined ? listed : ["mean of all pairs", ...listed] },
    switches: [
      { label: "direction", names: directions },
      { label: "metric", names: metrics.map((name) => name.replaceAll("_", " ")) },
      { label: "site", names: sites.map(({ name }) => name.replaceAll("_", " ")) },
    ],
    sheet: (chosen) => {
      const pair = chosen.sheet - (mean === undefined ? 0 : 1);
      return pair < 0 ? meanSheet(result, chosen, place) : pairSheet(result, chosen, place, pair);
    },
  });
}

interface Picked {
  direction: number;
  metric: number;
  site: Site;
}

function picked(result: Patching, { switches: [direction = 0, metric = 0, site = 0] }: Chosen): Picked {
  return { direction, metric, site: result.sites[site] as Site };
}

/** Where the figures of a map stand: its columns are positions; of a site with several parts, those at one position. */
function places(
  result: Patching,
  { metric, site }: Picked,
  positions: number,
  place: number,
): { index: (layer: number, column: number) => number; position: (column: number) => number } {
  const chosen = place < 0 || place >= positions ? positions - 1 : place;
  const position = (column: number) => (site.part === undefined ? column : chosen);
  const part = (column: number) => (site.part === undefined ? 0 : column);
  const index = (layer: number, column: number) =>
    ((metric * result.layers.length + layer) * positions + position(column)) * site.parts + part(column);
  return { index, position };
}

function pairSheet(result: Patching, chosen: Chosen, place: Place, at: number): Sheet {
  const pick = picked(result, chosen);
  const { together } = result;
  const pair = result.pairs[at] as Patching["pairs"][number];
  const run = pair.runs[pick.direction] as PatchRun;
  const { site, metric, direction } = pick;
  const { index, position } = places(result, pick, run.tokens.length, chosen.place);
  const raw = (layer: number, column: number) => run.values[site.name]?.[index(layer, column)] ?? Number.NaN;
  const [clean, corrupt] = [run.clean[metric] as number, run.corrupt[metric] as number];
  const effect = (value: number) =>
    run.defined[metric] ? (value - corrupt) / (clean - corrupt) : Number.NaN;
  const value = (layer: number, column: number) => effect(raw(layer, column));
  const name = (token: number) => wordOf(result.words, token);
  const heads = run.tokens.map((token, at) => ({
    text: together ? "all positions" : name(token),
    marked: !together && run.differs.has(at),
  }));
  const way = result.directions[direction] as string;
  const asked = `${name(pair.answer[0])}, against ${name(pair.answer[1])}`;
  const origin = [
    pair.bos === undefined ? "" : pair.bos ? "BOS" : "no BOS",
    result.path === undefined ? "" : visibleLine(result.path),
    `clean “${visibleLine(pair.clean)}” → ${name(pair.answer[0])}`,
    `corrupt “${visibleLine(pair.corrupt)}” → ${name(pair.answer[1])}`,
  ];
  const words = (result.metrics[metric] as string).replaceAll("_", " ");
  const undefinedHere = "undefined: clean and corrupt run hardly differ";
  const missing = (column: number) => {
    if (!run.defined[metric]) return undefinedHere;
    return together || run.aligned.has(position(column))
      ? "was not asked for"
      : "not aligned: no counterpart in the other prompt";
  };
  return finish(result, pick, place, {
    heads,
    origin: origin.filter((part) => part !== "").join(" · "),
    value,
    missing,
    about: () => [
      heading("Baselines"),
      pairs([
        [`clean, ${words}`, plainFigure(words, clean)],
        [`corrupt, ${words}`, plainFigure(words, corrupt)],
      ]),
      ...warningOf(result),
      element("p", {
        class: "edif-note",
        text: run.defined[metric]
          ? `0 = corrupt, 1 = clean. Colour is symmetric about 0. ${MEANS[way] ?? ""} Answer ${asked}.`
          : `The effect is ${undefinedHere} in this metric.`,
      }),
    ],
    ...nextOf(result, pick, { pair: at, together, position }),
    detail: (layer, column) => ({
      name: spot(result, site, heads, position(column), layer, column),
      figures: [
        [
          result.approximate === undefined ? "effect" : "estimated effect",
          known(value(layer, column), missing(column)),
        ],
        [words, plainFigure(words, raw(layer, column))],
      ],
    }),
  });
}

/** What a reader must know of estimates. */
function warningOf({ approximate }: Patching): Node[] {
  if (approximate === undefined) return [];
  const text = `≈ ${visibleLine(approximate)}`;
  return [element("p", { class: "edif-note edif-warning", text })];
}

/** The lens of the run that a cell has patched; from a pinned cell, of its activation put into this one. */
function nextOf(
  { handle, layers, directions, approximate, path }: Patching,
  { site, direction }: Picked,
  { pair, together, position }: { pair: number; together: boolean; position: (column: number) => number },
): Pick<Sheet, "next"> {
  const way = directions[direction] ?? "";
  // These words go into code that a click runs: letters, or nothing is offered.
  if (handle === undefined || path !== undefined) return {};
  if (approximate !== undefined) {
    const code = `edif.shown("${handle}").refine(pair=${pair})`;
    return { next: (_, from) => (from === undefined ? [{ words: "Patch the top 10 exactly", code }] : []) };
  }
  // A pattern is no activation that could be put anywhere.
  const [named, sited] = [[site.name, way].every((word) => /^[a-z_]+$/.test(word)), site.name !== "pattern"];
  if (together || !named || !sited) return {};
  const how = `site="${site.name}", direction="${way}"${pair > 0 ? `, pair=${pair}` : ""}`;
  /** Layer, position and, where there are several, head. */
  const spotOf = ([layer, column]: [number, number]): (number | undefined)[] => [
    layers[layer],
    position(column),
    ...(site.part === undefined ? [] : [column]),
  ];
  const next = (cell: [number, number], from?: [number, number]): Next[] => [
    {
      words: from === undefined ? "Open its patched lens" : "Patch the pinned cell into this one",
      code: patchOf(handle, spotOf(cell), from === undefined ? [] : spotOf(from), how),
    },
  ];
  return { next };
}

/** The line of code that patches a cell, with its own counterpart or with that of another one. */
function patchOf(
  handle: string,
  [layer, position, head]: (number | undefined)[],
  from: (number | undefined)[],
  how: string,
): string {
  const one = head === undefined ? "" : `, head=${head}`;
  const source = from.length === 0 ? "" : `, source=(${from.join(", ")})`;
  return `edif.shown("${handle}").patched_lens(layer=${layer}, position=${position}${one}${source}, ${how})`;
}

function meanSheet(result: Patching, chosen: Chosen, place: Place): Sheet {
  const pick = picked(result, chosen);
  const run = (result.mean as NonNullable<Patching["mean"]>)[pick.direction] as NonNullable<
    Patching["mean"]
  >[number];
  const { index, position } = places(result, pick, run.positions, chosen.place);
  const of = (held: Record<string, number[]>) => (layer: number, column: number) =>
    held[pick.site.name]?.[index(layer, column)] ?? Number.NaN;
  const [value, low, high] = [of(run.mean), of(run.low), of(run.high)];
  const heads = Array.from({ length: run.positions }, (_, at) => ({ text: `position ${at}`, marked: false }));
  const missing = () => "no pair has a value here";
  return finish(result, pick, place, {
    heads,
    origin: "mean over pairs",
    value,
    missing,
    about: () => [
      heading("Mean over pairs"),
      element("p", {
        class: "edif-note",
        text: "0 = corrupt, 1 = clean; interval of 95 %, by resampling pairs.",
      }),
      ...warningOf(result),
    ],
    more: (_, column) => byLayer(result, { value, low, high }, column),
    detail: (layer, column) => ({
      name: spot(result, pick.site, heads, position(column), layer, column),
      figures: [
        ["mean effect", known(value(layer, column), missing())],
        ["from", known(low(layer, column), "–")],
        ["to", known(high(layer, column), "–")],
      ],
    }),
  });
}

/** The parts of a map that one pair and the mean over pairs do not have in common; `heads` are the positions. */
type Own = Pick<Sheet, "origin" | "value" | "missing" | "about" | "detail" | "next" | "more"> & {
  heads: Sheet["columns"];
};

function finish(
  result: Patching,
  { metric, site, direction }: Picked,
  { scale }: Place,
  { heads, ...own }: Own,
): Sheet {
  const columns = site.part === undefined ? heads : parts(site);
  let extent = 0;
  for (const layer of result.layers.keys()) {
    for (const column of columns.keys()) extent = Math.max(extent, Math.abs(own.value(layer, column)) || 0);
  }
  const [words = "", where = ""] = [result.metrics[metric] ?? "", site.name].map((name) =>
    name.replaceAll("_", " "),
  );
  const guess = result.approximate === undefined ? "effect" : "estimated effect";
  const meaning = `${guess} on ${words}, ${where}, ${result.directions[direction]}`;
  const most = scale?.most(words, extent) ?? (extent || 1);
  return {
    ...own,
    columns,
    places: site.part === undefined ? [] : heads.map(({ text }, at) => `${at} ${text}`),
    meaning,
    step: (found) => diverging(found, most),
    figure: signedFigure,
    legend: () => legendOf(DIVERGING, signedFigure(-most), signedFigure(most), meaning),
  };
}

/** One column's means by layer, with their interval. */
function byLayer(
  { layers }: Patching,
  { value, low, high }: Record<"value" | "low" | "high", Sheet["value"]>,
  column: number,
): Node[] {
  const of = (figure: Sheet["value"]): number[] => layers.map((_, layer) => figure(layer, column));
  return [
    heading("By layer, with its interval"),
    plot({
      lines: [
        { name: "mean effect", look: "blue", values: of(value), band: { low: of(low), high: of(high) } },
      ],
      x: layers,
      ends: [`layer ${layers[0]}`, String(layers.at(-1))],
      figure: signedFigure,
      what: "mean effect by layer",
    }),
  ];
}

function parts({ part, parts: count }: Site): Sheet["columns"] {
  return Array.from({ length: count }, (_, n) => ({ text: `${part} ${n}` }));
}

/** A cell in words: position, head where there are several, layer. */
function spot(
  { layers }: Patching,
  { part }: Site,
  heads: Sheet["columns"],
  position: number,
  layer: number,
  column: number,
): string {
  const head = part === undefined ? "" : ` · ${part} ${column}`;
  return `${heads[position]?.text}${head} · layer ${layers[layer]}`;
}

/** The metric itself, as it is read. */
function plainFigure(metric: string, value: number): string {
  if (Number.isNaN(value)) return "–";
  if (metric === "rank") return value.toLocaleString("en");
  return metric === "probability" || metric === "kl" ? probabilityFigure(value) : signedFigure(value);
}

function known(value: number, otherwise: string): string {
  return Number.isNaN(value) ? otherwise : signedFigure(value);
}
