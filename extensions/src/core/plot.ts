// Draws lines with their intervals: a token's probability through the layers, effects by layer or by strength.
// In place beside a grid; never the only place where its figures stand.  Called by the views.
import { element, line as shape } from "./dom.ts";

export interface Line {
  name: string;
  look: "blue" | "orange" | "muted";
  dashed?: boolean;
  /** One for each place along x; not-a-number where it is not known. */
  values: number[];
  /** What is around the line: an interval, a spread. */
  band?: { low: number[]; high: number[] };
}

export interface PlotSpec {
  lines: Line[];
  /** Where the places are along x, ascending, and what stands below the first and the last one. */
  x: number[];
  ends: [string, string];
  figure: (value: number) => string;
  /** Figures that are always within the plot. */
  within?: number[];
  /** What a screen reader says is drawn. */
  what: string;
}

const WIDE = 232;
const HIGH = 76;
const [LEFT, RIGHT, TOP, BOTTOM] = [40, 226, 8, 58];

/** The plot, and below it what its lines are where there is more than one. */
export function plot(spec: PlotSpec): HTMLElement {
  const node = element("figure", { class: "edif-plot" }, drawn(spec));
  if (spec.lines.length > 1) node.append(keysOf(spec.lines));
  return node;
}

function drawn({ lines, x: places, ends, figure, within = [0], what }: PlotSpec): SVGSVGElement {
  const [low, high] = extent(lines, within);
  const [first, last] = [places[0] as number, places.at(-1) as number];
  const x = (place: number): number =>
    last > first ? LEFT + ((RIGHT - LEFT) * (place - first)) / (last - first) : RIGHT;
  const y = (value: number): number => BOTTOM - ((BOTTOM - TOP) * (value - low)) / (high - low);
  const at = (n: number): number => x(places[n] as number);
  const label = (text: string, left: number, height: number, anchor: string) =>
    shape("text", { x: left, y: height, "text-anchor": anchor }, document.createTextNode(text));
  const zero = Math.min(Math.max(0, low), high);
  const marks = low < 0 && high > 0 ? [label("0", LEFT - 4, y(0) + 3, "end")] : [];
  return shape(
    "svg",
    {
      viewBox: `0 0 ${WIDE} ${HIGH}`,
      width: WIDE,
      height: HIGH,
      role: "img",
      "aria-label": `${what}, from ${figure(low)} to ${figure(high)}`,
    },
    ...lines.flatMap((one) => bandOf(one, at, y)),
    shape("path", { class: "edif-axis", d: `M${LEFT} ${y(zero)}H${RIGHT}` }),
    shape("path", { class: "edif-most", d: `M${LEFT} ${TOP}H${RIGHT}` }),
    label(figure(high), LEFT - 4, TOP + 4, "end"),
    label(figure(low), LEFT - 4, BOTTOM + 3, "end"),
    ...marks.filter(() => y(0) - TOP > 14 && BOTTOM - y(0) > 14),
    label(ends[0], LEFT, HIGH - 5, "start"),
    label(ends[1], RIGHT, HIGH - 5, "end"),
    ...lines.flatMap((one) => lineOf(one, at, y)),
  );
}

/** The least and the most of all that is drawn; never the same. */
function extent(lines: Line[], within: number[]): [number, number] {
  const all = lines.flatMap(({ values, band }) => [...values, ...(band?.low ?? []), ...(band?.high ?? [])]);
  const known = [...all.filter((value) => !Number.isNaN(value)), ...within];
  const low = known.reduce((least, value) => Math.min(least, value), Number.POSITIVE_INFINITY);
  const high = known.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
  return [low, Math.max(high, low + 1e-6)];
}

/** A line where neighbours are known, a dot at the last point and wherever one is known alone. */
function lineOf(
  { look, dashed, values }: Line,
  x: (n: number) => number,
  y: (value: number) => number,
): Node[] {
  const known = (n: number): boolean => !Number.isNaN(values[n] ?? Number.NaN);
  const colour = `edif-${look}`;
  const steps: string[] = [];
  const dots: Node[] = [];
  for (const [n, value] of values.entries()) {
    if (!known(n)) continue;
    steps.push(`${known(n - 1) ? "L" : "M"}${x(n).toFixed(1)} ${y(value).toFixed(1)}`);
    const alone = !known(n - 1) && !known(n + 1);
    const end = n === values.length - 1;
    if (alone || end) {
      dots.push(shape("circle", { class: colour, cx: x(n).toFixed(1), cy: y(value).toFixed(1), r: 2.5 }));
    }
  }
  const kind = `edif-path ${colour}${dashed ? " edif-dashed" : ""}`;
  return [shape("path", { class: kind, d: steps.join("") }), ...dots];
}

/** The ground between low and high, in pieces where both are known. */
function bandOf({ look, band }: Line, x: (n: number) => number, y: (value: number) => number): Node[] {
  if (band === undefined) return [];
  const pieces: number[][] = [[]];
  for (const n of band.low.keys()) {
    const known = !Number.isNaN(band.low[n]) && !Number.isNaN(band.high[n]);
    if (known) pieces.at(-1)?.push(n);
    else pieces.push([]);
  }
  const point = (n: number, value: number | undefined) =>
    `${x(n).toFixed(1)} ${y(value as number).toFixed(1)}`;
  return pieces
    .filter((piece) => piece.length > 1)
    .map((piece) => {
      const there = piece.map((n) => point(n, band.high[n]));
      const back = [...piece].reverse().map((n) => point(n, band.low[n]));
      return shape("path", { class: `edif-band-of edif-${look}`, d: `M${[...there, ...back].join("L")}Z` });
    });
}

/** A piece of each line, and its name. */
function keysOf(lines: Line[]): HTMLElement {
  const entries = lines.map(({ name, look, dashed }) => {
    const kind = `edif-path edif-${look}${dashed ? " edif-dashed" : ""}`;
    const sample = shape("svg", { viewBox: "0 0 18 8", width: 18, height: 8, "aria-hidden": "true" });
    sample.append(shape("path", { class: kind, d: "M1 4H17" }));
    return element("span", {}, sample, element("span", { text: name }));
  });
  return element("figcaption", { class: "edif-lines" }, ...entries);
}
