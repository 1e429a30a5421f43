import { beforeEach, describe, expect, it } from "vitest";
import { draw } from "../src/core/draw.ts";
import { all, freshPage, host, one, type } from "./page.ts";
import { attention } from "./results.ts";

freshPage();
beforeEach(() => {
  HTMLCanvasElement.prototype.getContext = (() => null) as never; // jsdom has none; a browser test sees the pictures
});

const steps = () => all(".edif-piece").map((node) => node.dataset.step);

describe("attention", () => {
  it("shows heads in their order and what the last token looks at", () => {
    draw(host, attention());
    expect(all(".edif-thumb").map((node) => node.getAttribute("aria-label"))).toEqual([
      "3.1: layer 3, head 1, effect +0.500",
      "0.0: layer 0, head 0",
    ]);
    expect(all(".edif-piece").map((node) => node.textContent)).toEqual(["The", "␣city", "↵"]);
    expect(steps()).toEqual(["s6", "s25", "s0"]); // 0.2, 0.8 and 0 of 31
    expect(one(".edif-panel").textContent).toContain("1 ␣city0.8000 The0.2002 ↵0");
  });

  it("turns around with m, and keys that come later are unknown, not zero", () => {
    draw(host, attention());
    one(".edif-prompt").focus();
    type("ArrowLeft");
    expect(steps()).toEqual(["s31", "s0", ""]);
    type("m");
    expect(steps()).toEqual(["", "s0", "s25"]); // the newline looks at ␣city
    expect(one(".edif-panel").textContent).toContain("␣city is looked at by");
  });

  it("goes through heads with the arrow keys and by click", () => {
    draw(host, attention());
    one(".edif-prompt").focus();
    type("ArrowDown");
    expect(steps()).toEqual(["s31", "s0", "s0"]);
    (all(".edif-thumb")[0] as HTMLElement).click();
    expect(steps()).toEqual(["s6", "s25", "s0"]);
    expect(all('[aria-pressed="true"].edif-thumb')).toHaveLength(1);
  });

  it("follows the pointer until a token is locked", () => {
    draw(host, attention());
    const over = (n: number) =>
      all(".edif-piece")[n]?.dispatchEvent(new Event("pointermove", { bubbles: true }));
    over(0);
    expect(steps()).toEqual(["s31", "", ""]);
    (all(".edif-piece")[1] as HTMLElement).click();
    over(2);
    expect(one(".edif-panel").textContent).toContain("␣city looks at (locked)");
    type("Escape");
    (all(".edif-piece")[1] as HTMLElement).click();
    over(2);
    expect(one(".edif-panel").textContent).toContain("↵ looks at");
  });

  it("is a table at t", () => {
    draw(host, attention());
    one(".edif-prompt").focus();
    type("t");
    expect(all(".edif-plain tbody tr")[2]?.textContent).toBe("2 ↵1 ␣city 0.8000 The 0.2002 ↵ 0.000");
  });

  it("answers weights that are none with a sentence, and markup with text", () => {
    const [prompt] = attention().prompts as Record<string, unknown>[];
    const broken = (weights: unknown) => [{ ...prompt, maps: [{ layer: 0, head: 0, weights }] }];
    for (const weights of [3, "%%", btoa("abc"), null]) {
      draw(host, attention({ prompts: broken(weights) }));
      expect(one(".edif-problem p").textContent).toContain("are not 6 bytes");
    }
    draw(host, attention({ vocabulary: { ids: [1, 2, 3], texts: Array(3).fill("<img src=x>") } }));
    expect(host.querySelector("img")).toBeNull();
  });
});
