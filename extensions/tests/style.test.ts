import { expect, it } from "vitest";
import { STYLE } from "../src/core/style.ts";

/** Colours of the two palettes in the order they stand in: light, then dark. */
function palette(name: string): string[] {
  return [...STYLE.matchAll(new RegExp(`--edif-${name}:[^;]*?(#[0-9a-f]{6})`, "g"))].map(
    ([, hex]) => hex as string,
  );
}

function luminance(hex: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const channel = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return channel <= 0.040_45 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a: string, b: string): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

// JupyterLab's own grounds: its layout colours 1 and 2, light and dark.
const GROUNDS = [
  ["#ffffff", "#eef1f5", "#eeeeee"],
  ["#181b21", "#262b34", "#212121", "#111111", "#424242"],
];

it.each([0, 1])("text keeps 4.5:1 and marks keep 3:1 to every ground of palette %i", (theme) => {
  for (const ground of GROUNDS[theme] as string[]) {
    expect(contrast(palette("text")[theme] as string, ground)).toBeGreaterThanOrEqual(4.5);
    expect(contrast(palette("muted")[theme] as string, ground)).toBeGreaterThanOrEqual(4.5);
  }
  const ground = palette("ground")[theme] as string;
  for (const ink of ["weak", "strong", "accent"]) {
    expect(contrast(palette(ink)[theme] as string, ground)).toBeGreaterThanOrEqual(3);
  }
});

it("no cell's look hangs on what another one is: a large grid would be gone through at each hover", () => {
  const rules = STYLE.split("}").map((rule) => rule.split("{")[0] ?? "");
  expect(rules.filter((selector) => /:has\([^)]*\).*\btd\b/.test(selector))).toEqual([]);
});
