// Paints the lower triangle of a square map of weights on a canvas, in the colours of the page's theme.
// Called by attention-view.ts.
import { colours, SEQUENTIAL } from "./scale.ts";

/** Paints `weights` (bytes, row by row, row `q` of `q + 1`) of `count` tokens, about `size` units wide. */
export function paintMap(canvas: HTMLCanvasElement, weights: Uint8Array, count: number, size: number): void {
  // Of more tokens than the picture has dots, each dot shows the strongest of those under it: nothing is left out.
  const dots = Math.min(count, size * 2);
  canvas.width = canvas.height = dots;
  canvas.style.width = canvas.style.height = `${size}px`;
  const strongest = strongestOf(weights, count, dots);
  const context = canvas.getContext("2d");
  if (context === null) return; // a page without canvases still has the tokens and the table
  const picture = context.createImageData(dots, dots);
  const palette = paletteOf(isDark() ? "dark" : "light");
  for (let row = 0; row < dots; row++) {
    for (let column = 0; column <= row; column++) {
      const at = row * dots + column;
      picture.data.set(palette[strongest[at] as number] as number[], at * 4);
    }
  }
  context.putImageData(picture, 0, 0);
}

/** The strongest weight under each dot, row by row. */
function strongestOf(weights: Uint8Array, count: number, dots: number): Uint8Array {
  const strongest = new Uint8Array(dots * dots);
  for (let query = 0; query < count; query++) {
    const row = Math.floor((query * dots) / count) * dots;
    const first = (query * (query + 1)) / 2;
    for (let key = 0; key <= query; key++) {
      const at = row + Math.floor((key * dots) / count);
      const weight = weights[first + key] as number;
      if (weight > (strongest[at] as number)) strongest[at] = weight;
    }
  }
  return strongest;
}

/** Red, green, blue and opacity of each of the 256 weights. */
function paletteOf(theme: "light" | "dark"): number[][] {
  const steps = SEQUENTIAL.map((step) => {
    const { ground } = colours(step, theme);
    return [...[1, 3, 5].map((at) => Number.parseInt(ground.slice(at, at + 2), 16)), 255];
  });
  return Array.from(
    { length: 256 },
    (_, weight) => steps[Math.round((weight / 255) * (steps.length - 1))] as number[],
  );
}

function isDark(): boolean {
  const said = document.body.dataset.jpThemeLight;
  return said === undefined
    ? (window.matchMedia?.("(prefers-color-scheme: dark)").matches ?? false)
    : said === "false";
}

/** Calls `repaint` when the theme of the page changes, as long as `node` is on it: style sheets do not reach a canvas. */
export function whenThemeChanges(node: HTMLElement, repaint: () => void): void {
  let placed = false;
  const watch = new MutationObserver(() => {
    placed ||= node.isConnected;
    if (node.isConnected) repaint();
    else if (placed) watch.disconnect();
  });
  watch.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
}
