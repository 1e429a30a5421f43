import { describe, expect, it } from "vitest";
import { colours, contrast, DIVERGING, diverging, SEQUENTIAL, sequential, share } from "../src/core/scale.ts";

describe.each(["light", "dark"] as const)("the scales, %s", (theme) => {
  it("keep 4.5:1 for the text on every step", () => {
    for (const step of [...SEQUENTIAL, ...DIVERGING]) {
      const { ground, ink } = colours(step, theme);
      expect(contrast(ground, ink), step).toBeGreaterThanOrEqual(4.5);
    }
  });

  it("go one way, away from the ground", () => {
    const paper = theme === "light" ? "#ffffff" : "#111111";
    const far = (steps: string[]) => steps.map((step) => contrast(colours(step, theme).ground, paper));
    const sides = [SEQUENTIAL, DIVERGING.slice(20), DIVERGING.slice(0, 21).reverse()];
    for (const side of sides.map(far)) expect(side).toEqual([...side].sort((a, b) => a - b));
  });

  it("have the same middle on both sides of zero", () => {
    const gap = contrast(colours("b1", theme).ground, colours("o0", theme).ground);
    expect(gap).toBeLessThan(1.2);
  });
});

it("names steps from shares and signed values", () => {
  expect([0, 0.5, 1, Number.NaN].map(sequential)).toEqual(["s0", "s16", "s31", ""]);
  expect([-2, -1, 0, 0.01, 1, Number.NaN].map((value) => diverging(value, 1))).toEqual([
    "b20",
    "b20",
    "o0",
    "o0",
    "o20",
    "",
  ]);
});

it("places figures between two others, huge and equal ones too", () => {
  expect([share(5, 0, 10), share(-1, 0, 10), share(3, 3, 3)]).toEqual([0.5, 0, 1]);
  expect(share(0, -1.7e308, 1.7e308)).toBe(0.5);
});
