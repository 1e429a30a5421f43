import { describe, expect, it } from "vitest";
import { draw } from "../src/core/draw.ts";
import { cell, freshPage, host, one, texts, type } from "./page.ts";
import { lens } from "./results.ts";

freshPage();

describe("pins of the lens", () => {
  const chips = () => texts(".edif-chip");

  it("follow a group of tokens as one, with the sum of their probabilities", () => {
    draw(host, lens());
    cell(0, 1).click(); // ␣Paris, followed exactly
    cell(1, 1).focus();
    cell(1, 1).dispatchEvent(new MouseEvent("click", { bubbles: true, shiftKey: true })); // a newline
    expect(chips()).toEqual(["pinned ␣Paris + ↵ ×"]);
    expect(texts(".edif-heading").at(-1)).toBe("␣Paris + ↵ by layer");
    cell(0, 0).focus();
    one(".edif-chip").click();
    expect(chips()).toEqual([]);
  });

  it("are made and joined with the keyboard, and taken away one by one", () => {
    draw(host, lens());
    cell(0, 1).focus();
    type("Enter");
    type("ArrowDown");
    type("g");
    expect(chips()).toEqual(["pinned ␣Paris + ↵ ×"]);
    type("Enter");
    expect(chips()).toEqual(["pinned ␣Paris ×"]);
  });

  it("keep a row in view for comparison, by its head or r", () => {
    draw(host, lens());
    cell(1, 1).focus();
    type("r");
    expect(one("th.edif-pinned").textContent).toBe("1");
    type("ArrowUp");
    expect(texts(".edif-heading")).toContain("␣city · pinned layer 1");
    one("th.edif-pinned").click();
    expect(host.querySelector("th.edif-pinned")).toBeNull();
  });

  it("are kept: groups, rows, and what is not there any more is left out", () => {
    draw(host, lens(3, { view: { pins: [12, 99], groups: [[12, 13, 99], "x"], rows: [2, 77] } }));
    expect(chips()).toEqual(["pinned ␣Paris + ↵ ×"]);
    expect(one("th.edif-pinned").textContent).toBe("2");
  });
});

describe("the lens", () => {
  it("has the last layer on top, tokens as columns, and the top token in each cell", () => {
    draw(host, lens());
    expect(texts("thead th")).toEqual(["layer", "The", "␣city"]);
    expect(texts("tbody th")).toEqual(["2", "1", "0"]);
    expect(texts("tbody td")).toEqual(["↵", "␣Paris", "↵", "↵", "↵", "↵"]);
    expect(one(".edif-provenance").textContent).toBe("edif/demo · float32 · no BOS · “The city”");
  });

  it("marks what the model says at last, and only where the last layer is there", () => {
    draw(host, lens());
    expect(texts(".edif-grid .edif-final")).toEqual(["↵", "␣Paris"]);
    draw(host, lens(3, { final: false }));
    expect(texts(".edif-grid .edif-final")).toEqual([]);
    expect(texts(".edif-heading")).toEqual(["␣city · layer 2", "␣Paris by layer"]);
  });

  it("colours by another metric with m and the switch, in the same cells", () => {
    draw(host, lens());
    const corner = cell(0, 1);
    expect(corner.dataset.step).toBe("s27"); // 6/7 of 31
    corner.focus();
    expect(type("m")).toBe(true);
    expect(one(".edif-card").dataset.metric).toBe("rank");
    expect(document.activeElement).toBe(corner);
    expect(corner.dataset.step).toBe("s31");
    expect(cell(2, 0).dataset.step).toBe("s0"); // rank 6 of at most 6
    one('button[data-name="Δ logit"]').click();
    expect([cell(0, 1), cell(2, 1), cell(1, 0), cell(2, 0)].map((node) => node.dataset.step)).toEqual([
      "o20",
      "b7",
      "o0",
      "b13",
    ]);
    expect(one(".edif-legend").textContent).toContain("logit of ␣Paris minus logit of ↵");
    expect(corner.getAttribute("aria-label")).toBe("␣Paris, layer 2, ␣city, Δ logit 3.00");
  });

  it("hatches what is not known", () => {
    draw(host, lens());
    one('button[data-name="next token"]').click();
    expect(cell(0, 1).dataset.step).toBe("");
    expect(cell(0, 1).getAttribute("aria-label")).toContain("not known");
    expect(cell(0, 0).dataset.step).toBe("s31");
  });

  it("says the rank of the final prediction where no token is followed, as far as it is known", () => {
    const without = { target_probability: [], target_rank: [], target_logit: [] };
    const [prompt] = lens().prompts as object[];
    draw(host, lens(3, { targets: [], prompts: [{ ...prompt, ...without }] }));
    one('button[data-name="rank"]').click();
    expect(cell(0, 1).getAttribute("aria-label")).toContain("rank 1");
    expect(cell(1, 1).getAttribute("aria-label")).toContain("rank > 2");
    expect(cell(1, 0).getAttribute("aria-label")).toContain("rank 1");
  });

  it("shows a cell beside the grid when it is pointed at, and goes back when it is left", () => {
    draw(host, lens());
    cell(2, 0).dispatchEvent(new Event("pointerover", { bubbles: true }));
    expect(one(".edif-heading").textContent).toBe("The · layer 0");
    expect(texts(".edif-panel ul:first-of-type .edif-word").slice(0, 2)).toEqual(["↵", "␣city"]);
    expect(texts(".edif-heading")).toContain("The · final");
    one(".edif-grid").dispatchEvent(new Event("pointerleave"));
    expect(one(".edif-heading").textContent).toBe("␣city · layer 2 (final)");
    expect(texts(".edif-heading")).not.toContain("␣city · final"); // it is shown above already
  });

  it("draws the followed token through all layers, others where they are known", () => {
    draw(host, lens());
    expect(one("path.edif-path").getAttribute("d")?.match(/[ML]/g)).toEqual(["M", "L", "L"]);
    expect(one(".edif-panel").querySelector(".edif-note")).toBeNull();
    const [prompt] = lens().prompts as object[];
    const without = { target_probability: [], target_rank: [], target_logit: [] };
    draw(host, lens(3, { targets: [], prompts: [{ ...prompt, ...without }] }));
    expect(one("path.edif-path").getAttribute("d")?.match(/[ML]/g)).toEqual(["M"]);
    expect(one(".edif-panel .edif-note").textContent).toContain("not among the 2 most probable");
  });

  it("pins a token with a click and with Enter, wherever it is on top, and takes the pin away", () => {
    draw(host, lens());
    cell(1, 0).click();
    expect(host.querySelectorAll("td.edif-pinned")).toHaveLength(5);
    expect(texts(".edif-chip")).toEqual(["pinned ↵ ×"]);
    expect(one('[role="status"]').textContent).toBe("↵ pinned");
    expect(type("Enter")).toBe(true);
    expect(host.querySelectorAll("td.edif-pinned")).toHaveLength(0);
  });

  it("opens with the pins and the metric that were kept", () => {
    draw(host, lens(3, { view: { metric: "entropy", pins: [12, 99] } }));
    expect(one(".edif-card").dataset.metric).toBe("entropy");
    expect(texts("td.edif-pinned")).toEqual(["␣Paris"]);
  });

  it("moves with the arrow keys, Home, End and the page keys, and stays within", () => {
    draw(host, lens());
    expect(host.querySelectorAll('tbody [tabindex="0"]')).toHaveLength(1);
    one('tbody [tabindex="0"]').focus();
    expect(document.activeElement).toBe(cell(0, 1));
    for (const key of ["ArrowRight", "ArrowUp"]) type(key);
    expect(document.activeElement).toBe(cell(0, 1));
    for (const key of ["ArrowDown", "ArrowLeft"]) type(key);
    expect(document.activeElement).toBe(cell(1, 0));
    for (const key of ["PageDown", "End"]) type(key);
    expect(document.activeElement).toBe(cell(2, 1));
    expect(host.querySelectorAll('tbody [tabindex="0"]')).toHaveLength(1);
    expect(type("a")).toBe(false);
  });

  it("hides layers of a large model in bands that open", () => {
    draw(host, lens(30));
    const before = texts("tbody th");
    expect(before.slice(0, 6)).toEqual(["29", "28", "27", "26", "25", "24"]);
    expect(before.at(-1)).toBe("0");
    expect(before.length).toBeLessThan(16);
    const hidden = texts(".edif-band").map((text) => Number(text?.match(/\d+/)?.[0]));
    expect(hidden.reduce((sum, count) => sum + count, before.length)).toBe(30);
    one('tbody [tabindex="0"]').focus();
    for (let n = 0; n < 6; n++) type("ArrowDown");
    expect(document.activeElement?.className).toBe("edif-band");
    type("Enter");
    expect(texts("tbody th")).toContain("23");
    expect((document.activeElement as HTMLElement).getAttribute("aria-label")).toContain("layer 23");
    expect(texts(".edif-band")).toHaveLength(hidden.length - 1);
  });

  it("names layers that were not computed, without a promise to show them", () => {
    draw(host, lens(3, { layers: [0, 4, 5] }));
    expect(texts(".edif-gap")).toEqual(["··· 3 layers not in this output"]);
    expect(host.querySelector(".edif-gap")?.hasAttribute("tabindex")).toBe(false);
  });

  it("is a real table at t, of the metric that is chosen, and the drawing at t again", () => {
    draw(host, lens());
    one('tbody [tabindex="0"]').focus();
    type("m");
    type("t");
    expect(one(".edif-main").hidden).toBe(true);
    expect(texts('.edif-plain th[scope="row"]')).toEqual(["2", "1", "0"]);
    expect(texts(".edif-plain td").slice(0, 2)).toEqual(["↵ 2", "␣Paris 1"]);
    type("t");
    expect(one(".edif-main").hidden).toBe(false);
    expect(document.activeElement).toBe(cell(0, 1));
  });

  it("lets a reader choose among prompts", () => {
    const [prompt] = lens().prompts as Record<string, unknown>[];
    draw(host, lens(3, { prompts: [prompt, { ...prompt, prompt: "Another", tokens: [1, 1], bos: true }] }));
    const select = one("select") as HTMLSelectElement;
    select.selectedIndex = 1;
    select.dispatchEvent(new Event("change"));
    expect(texts("thead th")).toEqual(["layer", "␣city", "␣city"]);
    expect(one(".edif-provenance").textContent).toBe("edif/demo · float32 · BOS · “Another”");
  });
});

describe("a lens that is none", () => {
  const [good] = lens().prompts as Record<string, unknown>[];
  const MARKUP = '<img src=x onerror="document.title=1">';
  const bad: [string, Record<string, unknown>, string][] = [
    ["no layers", { layers: [] }, "its layers"],
    ["layers that descend", { layers: [2, 1, 0] }, "not ascending"],
    ["layers without end", { layers: Array.from({ length: 5000 }, (_, n) => n) }, "1 to 1000"],
    ["no vocabulary", { vocabulary: 3 }, "its vocabulary"],
    ["words that are none", { vocabulary: { ids: [1], texts: [{}] } }, "a token has no text"],
    ["a token outside the vocabulary", { targets: [4] }, "its targets name tokens"],
    ["half a token", { targets: [0.5, 1] }, "its targets name tokens"],
    ["too few numbers", { prompts: [{ ...good, entropy: [1] }] }, "its entropy should have 6"],
    [
      "numbers that are text",
      { prompts: [{ ...good, kl: Array(6).fill("url(x)") }] },
      "its kl are not numbers",
    ],
    ["tops without end", { top: 1e9 }, "its top is not"],
    ["too many cells", { prompts: [{ ...good, tokens: Array(20_000).fill(0) }] }, "60000 cells"],
    ["a prompt that is none", { prompts: [null] }, "prompts is not an object"],
    ["a view that is none", { view: 4 }, "its view"],
  ];

  it.each(bad)("answers %s with a sentence", (_name, changes, sentence) => {
    draw(host, lens(3, changes));
    expect(host.querySelector(".edif-problem p")?.textContent).toContain(sentence);
  });

  it("draws markup as text, wherever it stands", () => {
    const prompts = [{ ...good, prompt: MARKUP }];
    const vocabulary = { ids: [1, 2, 3, 4], texts: Array(4).fill(MARKUP) };
    draw(host, lens(3, { title: MARKUP, foot: MARKUP, prompts, vocabulary }));
    one('tbody [tabindex="0"]').focus();
    for (const key of ["Enter", "t"]) type(key);
    expect(host.querySelector("img")).toBeNull();
    expect(texts("thead th")[1]).toContain("<img␣src=x");
  });
});
