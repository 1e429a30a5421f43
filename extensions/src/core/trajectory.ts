// Draws how a token's probability goes through the layers; in place beside the grid.  Called by the lens.
import { line } from "./dom.ts";
import { probabilityFigure } from "./text.ts";

export interface Path {
  name: string;
  pinned: boolean;
  /** One for each layer; not-a-number where it is not known. */
  values: number[];
}

const WIDE = 232;
const HIGH = 76;
const [LEFT, RIGHT, TOP, BOTTOM] = [34, 226, 8, 58];

export function trajectory(paths: Path[], layers: number[]): SVGSVGElement {
  const known = paths.flatMap(({ values }) => values.filter((value) => !Number.isNaN(value)));
  const most = Math.max(1e-6, ...known);
  const [first, last] = [layers[0] as number, layers.at(-1) as number];
  const x = (layer: number): number =>
    last > first ? LEFT + ((RIGHT - LEFT) * (layer - first)) / (last - first) : RIGHT;
  const y = (value: number): number => BOTTOM - ((BOTTOM - TOP) * value) / most;
  const label = (text: string, at: number, height: number, anchor: string) =>
    line("text", { x: at, y: height, "text-anchor": anchor }, document.createTextNode(text));
  const names = paths.map(({ name }) => name).join(", ");
  return line(
    "svg",
    {
      viewBox: `0 0 ${WIDE} ${HIGH}`,
      width: WIDE,
      height: HIGH,
      role: "img",
      "aria-label": `probability of ${names} from layer ${first} to ${last}, at most ${probabilityFigure(most)}`,
    },
    line("path", { class: "edif-axis", d: `M${LEFT} ${BOTTOM}H${RIGHT}` }),
    line("path", { class: "edif-most", d: `M${LEFT} ${TOP}H${RIGHT}` }),
    label(probabilityFigure(most), LEFT - 4, TOP + 4, "end"),
    label("0", LEFT - 4, BOTTOM + 3, "end"),
    label(`layer ${first}`, LEFT, HIGH - 5, "start"),
    label(String(last), RIGHT, HIGH - 5, "end"),
    ...paths.flatMap((path) => drawPath(path, (n) => x(layers[n] as number), y)),
  );
}

/** A line where neighbours are known, a dot at the last point and wherever one is known alone. */
function drawPath({ pinned, values }: Path, x: (n: number) => number, y: (value: number) => number): Node[] {
  const known = (n: number): boolean => n >= 0 && n < values.length && !Number.isNaN(values[n]);
  const colour = pinned ? "edif-orange" : "edif-blue";
  const steps: string[] = [];
  const dots: Node[] = [];
  for (const [n, value] of values.entries()) {
    if (!known(n)) continue;
    steps.push(`${known(n - 1) ? "L" : "M"}${x(n).toFixed(1)} ${y(value).toFixed(1)}`);
    const alone = !known(n - 1) && !known(n + 1);
    if (alone || n === values.length - 1) {
      dots.push(line("circle", { class: colour, cx: x(n).toFixed(1), cy: y(value).toFixed(1), r: 2.5 }));
    }
  }
  return [line("path", { class: `edif-path ${colour}`, d: steps.join("") }), ...dots];
}
