// Which layers of a lens are shown at first, and the bands that stand for the others.  Called by lens.ts.
import type { Row } from "./grid.ts";

const ALL = 16;
const LAST = 6;
const EARLIER = 7;

/** All layers of a small model; of a large one the last six, and fewer and fewer towards the first. */
export function firstShown(count: number): Set<number> {
  if (count <= ALL) return new Set(Array.from({ length: count }, (_, layer) => layer));
  const last = Array.from({ length: LAST }, (_, n) => count - 1 - n);
  const below = count - LAST - 1;
  const earlier = Array.from({ length: EARLIER }, (_, n) =>
    Math.round((below - 1) * (1 - (n / (EARLIER - 1)) ** 1.3)),
  );
  return new Set([...last, ...earlier]);
}

/** Rows from the last layer down to the first; `open` hears which hidden layers are asked for, from the upper one. */
export function bandsOf(layers: number[], shown: Set<number>, open: (hidden: number[]) => void): Row[] {
  const rows: Row[] = [];
  let hidden: number[] = [];
  const close = (): void => {
    const between = hidden;
    if (between.length > 0)
      rows.push({ band: `${between.length} ${of(between.length)} hidden`, open: () => open(between) });
    hidden = [];
  };
  for (let layer = layers.length - 1; layer >= 0; layer--) {
    if (shown.has(layer)) {
      close();
      rows.push({ layer, name: String(layers[layer]) });
    } else hidden.push(layer);
    const left = layer > 0 ? (layers[layer] as number) - (layers[layer - 1] as number) - 1 : 0;
    if (left > 0 && shown.has(layer)) rows.push({ band: `${left} ${of(left)} not in this output` });
  }
  close();
  return rows;
}

function of(count: number): string {
  return count === 1 ? "layer" : "layers";
}
