import { describe, expect, it } from "vitest";
import { draw } from "../src/core/draw.ts";
import { cell, freshPage, host, one, texts, type } from "./page.ts";
import { patching, trace } from "./results.ts";

freshPage();

function steps(): (string | undefined)[] {
  return [...host.querySelectorAll<HTMLElement>("td[data-column]")].map((node) => node.dataset.step);
}

describe("activation patching", () => {
  it("has the last layer on top and colours effects about zero", () => {
    draw(host, patching());
    expect(texts("thead th")).toEqual(["layer", "A", "␣John", "␣to"]);
    expect(texts("tbody th")).toEqual(["2", "1", "0"]);
    // effects: 0 and 0; 0.5 and −0.2; 1 and −0.2; 1 is the whole of the scale
    expect(steps()).toEqual(["", "o0", "o0", "", "o10", "b4", "", "o20", "b4"]);
    expect(one(".edif-legend").textContent).toContain(
      "−1.000+1.000effect on logit difference, residual, denoise",
    );
  });

  it("prints the baselines and shows where prompts differ", () => {
    draw(host, patching());
    expect(one(".edif-panel").textContent).toContain("clean, logit difference+6.000");
    expect(one(".edif-panel").textContent).toContain("corrupt, logit difference−4.000");
    expect(texts(".edif-marked")).toEqual(["␣John"]);
    expect(one(".edif-provenance").textContent).toBe(
      "edif/demo · float32 · BOS · clean “A Mary” → ␣Mary · corrupt “A John” → ␣John",
    );
  });

  it("hatches what is not aligned and says so", () => {
    draw(host, patching());
    expect(cell(0, 0).dataset.step).toBe("");
    expect(cell(0, 0).getAttribute("aria-label")).toBe(
      "A, layer 2, not aligned: no counterpart in the other prompt",
    );
  });

  it("gives no effect where clean and corrupt run hardly differ", () => {
    draw(host, patching());
    one('button[data-name="probability"]').click();
    expect(new Set(steps())).toEqual(new Set([""]));
    expect(one(".edif-panel").textContent).toContain("undefined: clean and corrupt run hardly differ");
  });

  it("shows figures of the cell with the keyboard and the mouse, beside those of a pinned one", () => {
    draw(host, patching());
    one('tbody [tabindex="0"]').focus();
    expect(document.activeElement).toBe(cell(2, 1)); // the strongest
    type("Enter");
    expect(cell(2, 1).classList.contains("edif-pinned")).toBe(true);
    type("ArrowUp");
    expect(texts(".edif-heading")).toEqual(["Baselines", "␣John · layer 1", "pinned: ␣John · layer 0"]);
    expect(texts(".edif-pairs dd").slice(2)).toEqual(["+0.500", "+1.000", "+1.000", "+6.000"]);
    cell(2, 2).dispatchEvent(new Event("pointerover", { bubbles: true }));
    expect(texts(".edif-heading")[1]).toBe("␣to · layer 0");
  });

  it("changes direction, and the site with m; heads are columns at one position", () => {
    draw(host, patching());
    one('tbody [tabindex="0"]').focus();
    one('button[data-name="noise"]').click();
    expect(texts("thead th")).toEqual(["layer", "A", "␣Mary", "␣to"]);
    one('tbody [tabindex="0"]').focus();
    type("m");
    expect(one('button[data-name="head"]').getAttribute("aria-pressed")).toBe("true");
    expect(texts("thead th")).toEqual(["layer", "head 0", "head 1"]);
    expect(cell(0, 1).getAttribute("aria-label")).toBe("head 1, layer 2, +1.000");
    expect(host.contains(document.activeElement)).toBe(true);
    const select = one("select.edif-choice:not([hidden])") as HTMLSelectElement;
    expect([...select.options].map(({ text }) => text)).toEqual(["0 A", "1 ␣Mary", "2 ␣to"]);
    expect(select.selectedIndex).toBe(2);
    select.selectedIndex = 1;
    select.dispatchEvent(new Event("change"));
    expect(cell(0, 1).getAttribute("aria-label")).toBe("head 1, layer 2, +0.700");
  });

  it("opens with the mean over pairs and its interval where there are several", () => {
    const part = { residual: Array(18).fill(0.5), head: Array(36).fill(0.25) };
    const mean = { positions: 3, mean: part, low: part, high: { ...part, residual: Array(18).fill(0.75) } };
    const [pair] = patching().pairs as object[];
    draw(host, patching({ pairs: [pair, pair], mean: [mean, mean] }));
    expect(texts("select:not([hidden]) option")).toEqual([
      "mean of all pairs",
      "1: A Mary / A John",
      "2: A Mary / A John",
    ]);
    expect(texts(".edif-pairs dd")).toEqual(["+0.500", "+0.500", "+0.750"]);
  });

  it("is a real table at t", () => {
    draw(host, patching());
    cell(0, 1).focus();
    type("t");
    expect(texts(".edif-plain tbody tr:last-child > *")).toEqual(["0", "–", "+1.000", "−0.200"]);
  });
});

describe("a causal trace", () => {
  it("has one scale for all kinds, from the least to the most of them", () => {
    draw(host, trace());
    // −0.1 to 0.8, whatever kind is shown
    expect(steps()).toEqual(["s7", "s17", "s31", "s3"]);
    one('button[data-name="mlp"]').click();
    expect(steps()).toEqual(["s0", "s3", "s10", "s3"]);
    expect(one(".edif-legend").textContent).toContain("−0.100");
    expect(one(".edif-legend").textContent).toContain("+0.800");
  });

  it("tells the baselines, the effect and its spread, and marks the subject", () => {
    draw(host, trace());
    expect(texts(".edif-marked")).toEqual(["Paris"]);
    expect(texts(".edif-pairs dd")).toEqual(["0.900", "0.100", "+0.800", "0.900", "+0.800", "± 0.010"]);
    one('button[data-name="mlp"]').click();
    expect(one(".edif-note").textContent).toContain("a window of 10 layers");
  });

  it("averages over facts by class of token", () => {
    const figures = { mean: Array(8).fill(0.3), low: Array(8).fill(0.2), high: Array(8).fill(null) };
    draw(host, trace({ average: { classes: ["first subject", "last"], facts: [3, 2], ...figures } }));
    expect(texts("thead th")).toEqual(["layer", "first subject", "last"]);
    expect(texts(".edif-pairs dd")).toEqual(["+0.300", "+0.200", "–", "3"]);
  });
});

describe("maps that are none", () => {
  const [pair] = patching().pairs as { runs: object[] }[];
  const [fact] = trace().facts as object[];
  const bad: [string, unknown, string][] = [
    ["no sites", patching({ sites: [] }), "its sites"],
    ["a site without end", patching({ sites: [{ name: "head", parts: 1e9 }] }), "its parts"],
    ["a direction too many", patching({ directions: ["a", "b", "c"] }), "its directions"],
    ["a run too few", patching({ pairs: [{ ...pair, runs: pair?.runs.slice(1) }] }), "should have 2 runs"],
    [
      "numbers too few",
      patching({ pairs: [{ ...pair, runs: [{ ...pair?.runs[0], clean: [1] }, {}] }] }),
      "its clean",
    ],
    ["too many cells", trace({ facts: [{ ...fact, tokens: Array(39_000).fill(0) }] }), "78000 cells"],
    ["an answer that is none", trace({ facts: [{ ...fact, answer: 7 }] }), "its answer name tokens"],
    ["a window that is none", trace({ window: "<b>" }), "its window"],
    ["an average that is none", trace({ average: [] }), "its average"],
  ];

  it.each(bad)("answers %s with a sentence", (_name, data, sentence) => {
    draw(host, data);
    expect(host.querySelector(".edif-problem p")?.textContent).toContain(sentence);
  });

  it("draws markup as text, wherever it stands", () => {
    const markup = '<img src=x onerror="document.title=1">';
    const held = { title: markup, foot: markup, metrics: [markup, markup], directions: [markup, markup] };
    draw(host, patching({ ...held, vocabulary: { ids: [1, 2, 3, 4], texts: Array(4).fill(markup) } }));
    expect(host.querySelector(".edif-grid")).not.toBeNull();
    expect(host.querySelector("img")).toBeNull();
  });
});
