// Colour scales in steps: each step has a ground and an ink of its own for light and dark, so that a change of theme is a
// matter of style sheets alone and the contrast of every text on every cell can be tested.  Called by the views and style.ts.

/** Steps of the sequential scale, and of each side of the diverging one. */
const STEPS = 32;
const SIDE = 20;

type Colour = [number, number, number];

// Blue for how much; blue and orange about a zero that is the ground.  Both are told apart by colour-blind eyes.
const ANCHORS = {
  light: {
    blue: ["#f3f6fc", "#c3d3ef", "#87a8db", "#4a76be", "#2850a0", "#172a63"],
    below: ["#f5f6f6", "#bcd0ee", "#6b95d6", "#2350a9"],
    above: ["#f5f6f6", "#f6cf9d", "#e0933f", "#a54c0c"],
  },
  dark: {
    blue: ["#1b2130", "#1f3a70", "#2f60b4", "#5f95e0", "#9cc3f7", "#cfe3ff"],
    below: ["#1d2129", "#22406f", "#3a72c4", "#79b0ff"],
    above: ["#1d2129", "#5c3a17", "#b06a22", "#ffb25c"],
  },
} as const;
// Pure ones: with softer inks no text would keep 4.5 on the middle of a scale.
const INKS = ["#000000", "#ffffff"] as const;

/** Where `value` is between `low` and `high`, 0 to 1. */
export function share(value: number, low: number, high: number): number {
  if (!(high > low)) return value >= high ? 1 : 0;
  // Halves keep the difference of two huge numbers finite.
  return Math.min(1, Math.max(0, (value / 2 - low / 2) / (high / 2 - low / 2)));
}

/** The step of the sequential scale for a share of 0 to 1; the empty name for what is not known. */
export function sequential(part: number): string {
  return Number.isNaN(part) ? "" : `s${Math.round(part * (STEPS - 1))}`;
}

/** The step of the diverging scale for `value`, symmetric about 0 up to ± `extent`. */
export function diverging(value: number, extent: number): string {
  if (Number.isNaN(value)) return "";
  const step = Math.round(share(Math.abs(value), 0, extent) * SIDE) || 0;
  return step === 0 ? "o0" : `${value < 0 ? "b" : "o"}${step}`;
}

/** Names of all steps, in order from weak to strong, or from below to above zero. */
export const SEQUENTIAL = Array.from({ length: STEPS }, (_, step) => `s${step}`);
export const DIVERGING = [
  ...Array.from({ length: SIDE }, (_, step) => `b${SIDE - step}`),
  ...Array.from({ length: SIDE + 1 }, (_, step) => `o${step}`),
];

/** Ground and ink of a step in a theme, as hexadecimal colours. */
export function colours(step: string, theme: "light" | "dark"): { ground: string; ink: string } {
  const { blue, below, above } = ANCHORS[theme];
  const anchors = step.startsWith("s") ? blue : step.startsWith("b") ? below : above;
  const part = Number(step.slice(1)) / (step.startsWith("s") ? STEPS - 1 : SIDE);
  const ground = between(anchors, part);
  const ink = contrast(ground, INKS[0]) >= contrast(ground, INKS[1]) ? INKS[0] : INKS[1];
  return { ground, ink };
}

/** The contrast of two colours by WCAG 2, 1 to 21. */
export function contrast(one: string, other: string): number {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

/** Style rules of every step, for cells and for legends. */
export function scaleRules(theme: "light" | "dark", before: string): string {
  const rule = (step: string): string => {
    const { ground, ink } = colours(step, theme);
    return `${before} [data-step="${step}"]{background:${ground};color:${ink}}`;
  };
  return [...SEQUENTIAL, ...DIVERGING].map(rule).join("\n");
}

function between(anchors: readonly string[], part: number): string {
  const at = Math.min(part * (anchors.length - 1), anchors.length - 1.000_001);
  const first = Math.floor(at);
  const [low, high] = [channels(anchors[first] as string), channels(anchors[first + 1] as string)];
  const mixed = low.map((value, n) => Math.round(value + ((high[n] as number) - value) * (at - first)));
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

function channels(hex: string): Colour {
  return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)) as Colour;
}

function luminance(hex: string): number {
  const [r, g, b] = channels(hex).map((value) => {
    const part = value / 255;
    return part <= 0.040_45 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  }) as Colour;
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
