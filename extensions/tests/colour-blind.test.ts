// The scales as they look to eyes that lack one sort of cone (Machado, Oliveira & Fernandes 2009, severity 1).
import { describe, expect, it } from "vitest";
import { colours, SEQUENTIAL } from "../src/core/scale.ts";

type Three = [number, number, number];

/** What remains of linear red, green and blue. */
const EYES: Record<string, [Three, Three, Three]> = {
  "no red": [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  "no green": [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  "no blue": [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};
/** CIE 1976: a difference of about 2 is just seen, one of 20 at a glance. */
const AT_A_GLANCE = 20;
/** Of the 20 steps to each side of zero, from here on a sign must be told. */
const FROM = 5;

function seen(hex: string, eye: [Three, Three, Three]): Three {
  const linear = [1, 3, 5].map((at) => {
    const part = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return part <= 0.040_45 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  const left = eye.map((row) => dot(row, linear)).map((part) => Math.min(1, Math.max(0, part)));
  return lab(left);
}

/** CIE L*a*b* of linear red, green and blue, for daylight (D65). */
function lab(rgb: number[]): Three {
  const whites = [0.950_47, 1, 1.088_83];
  const rows: Three[] = [
    [0.412_456, 0.357_576, 0.180_438],
    [0.212_673, 0.715_152, 0.072_175],
    [0.019_334, 0.119_192, 0.950_304],
  ];
  const [x, y, z] = rows.map((row, n) => {
    const part = dot(row, rgb) / (whites[n] as number);
    return part > 0.008_856 ? Math.cbrt(part) : 7.787 * part + 16 / 116;
  }) as Three;
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

function dot(row: Three, values: number[]): number {
  return row.reduce((sum, one, n) => sum + one * (values[n] as number), 0);
}

describe.each(Object.entries(EYES))("to eyes with %s", (_, eye) => {
  describe.each(["light", "dark"] as const)("the scales, %s", (theme) => {
    const of = (step: string): Three => seen(colours(step, theme).ground, eye);

    it("tell what is above zero from what is as far below", () => {
      for (let step = FROM; step <= 20; step++) {
        const [above, below] = [of(`o${step}`), of(`b${step}`)];
        const apart = Math.hypot(...above.map((part, n) => part - (below[n] as number)));
        expect(apart, `o${step} and b${step}`).toBeGreaterThan(AT_A_GLANCE);
      }
    });

    it("go from weak to strong in lightness", () => {
      const lightness = SEQUENTIAL.map((step) => of(step)[0]);
      const steps = lightness.slice(1).map((one, n) => one - (lightness[n] as number));
      const way = theme === "light" ? -1 : 1;
      expect(steps.every((step) => step * way > 0)).toBe(true);
    });
  });
});
