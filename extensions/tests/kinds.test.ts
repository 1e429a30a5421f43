import { describe, expect, it } from "vitest";
import { draw } from "../src/core/draw.ts";
import { all, cell, freshPage, host, one, texts, type } from "./page.ts";
import { comparison, lens, patching, probe, series, steering, trace } from "./results.ts";

freshPage();

const steps = () => all("td[data-column]").map((node) => node.dataset.step);
const panel = () => one(".edif-panel").textContent;

/** A place with a kernel that only writes down what it is asked to run. */
function kernel(): { run: (code: string) => void; ran: string[] } {
  const ran: string[] = [];
  return { ran, run: (code) => void ran.push(code) };
}

describe("attribution patching", () => {
  const approximate = "Approximate, and known to mislead at mlp.";

  it("says that it estimates, in words and beside every figure", () => {
    draw(host, patching({ approximate, title: "Attribution patching" }));
    expect(one(".edif-warning").textContent).toBe(`≈ ${approximate}`);
    expect(texts(".edif-pairs dt")).toContain("estimated effect");
    expect(one(".edif-legend").textContent).toContain("estimated effect on logit difference");
  });

  it("offers exact patching of the top cells, and no patched lens", () => {
    const place = kernel();
    draw(host, patching({ approximate, handle: "abc" }), place);
    expect(texts(".edif-act button")).toEqual(["Patch the top 10 exactly o"]);
    one(".edif-act button").click();
    expect(place.ran).toEqual(['edif.shown("abc").refine(pair=0)']);
  });
});

describe("path patching", () => {
  it("names the receivers, and offers no lens of another run", () => {
    draw(host, patching({ path: "to q 9.6 at -1", handle: "abc" }), kernel());
    expect(one(".edif-provenance").textContent).toContain("BOS · to q 9.6 at -1 · clean");
    expect(all(".edif-act")).toHaveLength(0);
  });
});

describe("steering", () => {
  it("opens with the mean over prompts, its interval in the panel", () => {
    draw(host, steering());
    expect(texts("thead th")).toEqual(["layer", "−0.2", "0", "+0.2"]);
    expect(texts("tbody th")).toEqual(["5", "0"]);
    expect(texts(".edif-pairs dd")).toEqual(["+0.500", "+0.250", "+0.750"]);
    expect(all("path.edif-band-of")).toHaveLength(1);
  });

  it("shows one prompt's changes about zero, with what was said and written at the cell", () => {
    draw(host, steering({ view: { sheet: 1 } }));
    expect(texts("thead th")).toEqual(["layer", "−0.2", "0", "+0.2", "out here"]);
    expect(steps()).toEqual(["b20", "o0", "o20", "b10", "b5", "o0", "o5", "b5"]);
    expect(texts("tbody tr:first-child td")).toEqual(["−4.000", "0.000", "+4.000", "−2.000"]);
    cell(0, 1).click();
    expect(panel()).toContain("logit difference+1.000"); // unsteered, and nothing changed
    expect(texts(".edif-said")).toEqual(["plain↵words", "as it was"]);
    expect(texts(".edif-word")).toEqual(["␣great", "␣was"]);
    expect(panel()).toContain("Answer ␣good, against ␣bad.");
  });

  it("gives written text its own direction", () => {
    draw(host, steering({ view: { sheet: 1 } }));
    cell(0, 2).click();
    expect(one(".edif-said").getAttribute("dir")).toBe("auto");
    expect(one(".edif-said").textContent).toBe("سلام");
  });

  it("draws random directions as a band that the steered line leaves", () => {
    draw(host, steering({ view: { sheet: 1 } }));
    expect(one("path.edif-band-of").classList.contains("edif-muted")).toBe(true);
    expect(texts(".edif-lines > span")).toEqual(["steered", "random directions"]);
    expect(one(".edif-plot svg").getAttribute("aria-label")).toBe(
      "change of logit difference at layer 5 by strength, from −4.000 to +4.000",
    );
  });
});

describe("a probe", () => {
  it("has accuracy and its control beside effects, each on a scale of its own", () => {
    draw(host, probe());
    expect(texts("thead th")).toEqual([
      "layer",
      "accuracy",
      "shuffled",
      "−0.4",
      "+0.4",
      "swapped",
      "interchanged",
    ]);
    // chance and 1 are the ends of the one scale, ± the largest effect those of the other
    expect(cell(0, 0).dataset.step).toBe("s31");
    expect(cell(1, 1).dataset.step).toBe("s0");
    expect(cell(0, 2).textContent).toBe("0.000");
    expect(one(".edif-legend").textContent).toContain("≤ 0.50");
  });

  it("draws both by layer with their intervals, shuffled labels dashed", () => {
    draw(host, probe());
    cell(0, 3).click();
    expect(texts(".edif-heading")).toEqual([
      "Read, and used?",
      "+0.4 · layer 4",
      "Accuracy by layer",
      "+0.4, by layer (95 %)",
    ]);
    expect(all("path.edif-dashed")).toHaveLength(2); // the line and its key
  });

  it("changes the class with m and the position with the list", () => {
    draw(host, probe());
    const before = cell(0, 2).textContent;
    cell(0, 0).focus();
    type("m");
    expect(cell(0, 2).textContent).not.toBe(before);
    const list = one("select.edif-choice") as HTMLSelectElement;
    list.selectedIndex = 1;
    list.dispatchEvent(new Event("change"));
    expect(cell(0, 0).textContent).toBe("0.90");
  });

  it("without effects says what is missing", () => {
    draw(host, probe({ effects: null, strengths: [] }));
    expect(texts("thead th")).toEqual(["layer", "accuracy", "shuffled"]);
    expect(panel()).toContain("There are no effects: name answers=…");
    draw(host, probe({ effects: null, strengths: [], lacking: "not known yet" }));
    expect(panel()).toContain("There are no effects: not known yet");
  });
});

describe("two models", () => {
  it("are compared by depth, with both lenses on one scale below", () => {
    draw(host, comparison());
    const [map, ...sides] = all(".edif-card");
    expect([...(map as HTMLElement).querySelectorAll("tbody th")].map((node) => node.textContent)).toEqual([
      "1 / 3",
      "0 / 1",
    ]);
    expect(sides.map((node) => node.querySelector(".edif-title")?.textContent)).toEqual(["one", "other"]);
    expect(sides[0]?.querySelector('[data-name="KL to final"]')).toBeNull(); // not known, so not offered
  });

  it("where only one was read, are that one's lens, and nothing that passes for agreement", () => {
    const nothing = { mean: [null, null], low: [null, null], high: [null, null] };
    const [left] = comparison().sides as unknown[];
    const [said] = comparison().prompts as Record<string, unknown>[];
    const unknown = {
      kl: Array(4).fill(null),
      same_top: Array(4).fill(null),
      rank_correlation: Array(4).fill(null),
    };
    const mean = { kl: nothing, same_top: nothing, rank_correlation: nothing };
    draw(host, comparison({ sides: [left], prompts: [{ ...said, values: unknown }], mean }));
    const [map, ...sides] = all(".edif-card") as HTMLElement[];
    expect(sides.map((node) => node.querySelector(".edif-title")?.textContent)).toEqual(["one"]);
    const drawn = [...(map as HTMLElement).querySelectorAll<HTMLElement>("td[data-column]")];
    expect(drawn.map((node) => node.dataset.step)).toEqual(["", "", "", ""]);
  });

  it("choose one metric for both sides", () => {
    draw(host, comparison());
    const [, one, other] = all(".edif-card") as [HTMLElement, HTMLElement, HTMLElement];
    one.querySelector<HTMLElement>('[data-name="entropy"]')?.click();
    expect(other.dataset.metric).toBe("entropy");
  });

  it("have correlations about zero, and a dash where nothing is known", () => {
    draw(host, comparison({ sides: [] }));
    one('[data-name="rank correlation"]').click();
    expect(steps()).toEqual(["o0", "", "b20", "o20"]);
    expect(panel()).toContain("Mean over tokens by depth");
  });
});

describe("results on one scale", () => {
  it("have the scale of the larger one, whichever comes first", async () => {
    const [pair] = patching().pairs as { runs: Record<string, unknown>[] }[];
    const [run = {}, ...more] = pair?.runs ?? [];
    const values = { ...(run.values as object), residual: [...Array(3).fill(-4), 16, ...Array(14).fill(-4)] };
    const large = patching({ pairs: [{ ...pair, runs: [{ ...run, values }, ...more] }] });
    draw(host, { version: 1, kind: "together", title: "two", results: [patching(), large] });
    await Promise.resolve();
    const [small, big] = all(".edif-card") as [HTMLElement, HTMLElement];
    expect(small.querySelector(".edif-legend")?.textContent).toContain("+2.000");
    expect(big.querySelector(".edif-legend")?.textContent).toContain("+2.000");
    expect(small.querySelector('[data-row="2"][data-column="1"]')?.getAttribute("data-step")).toBe("o10");
  });

  it("are drawn beside each other, and a bad one says so without the other", () => {
    draw(host, { version: 1, kind: "together", title: "two", results: [lens(), { kind: "what" }] });
    expect(all(".edif-grid")).toHaveLength(1);
    expect(one(".edif-problem p").textContent).toContain("does not know the kind of result “what”");
  });

  it("nest no further", () => {
    draw(host, {
      version: 1,
      kind: "together",
      results: [{ version: 1, kind: "together", results: [lens()] }],
    });
    expect(one(".edif-problem p").textContent).toContain("results that are no single ones");
    draw(host, comparison({ sides: [comparison(), comparison()] }));
    expect(one(".edif-problem p").textContent).toContain("is no lens");
  });
});

describe("a series", () => {
  const sliders = () => all("input[type=range]") as HTMLInputElement[];
  const move = (n: number, to: number) => {
    (sliders()[n] as HTMLInputElement).value = String(to);
    sliders()[n]?.dispatchEvent(new Event("input"));
  };

  it("is gone through by a slider for each setting, on one scale", () => {
    draw(host, series());
    expect(texts(".edif-setting")).toEqual(["window 5", "noise 1"]);
    expect(sliders().map((node) => node.getAttribute("aria-valuetext"))).toEqual(["5", "1"]);
    move(1, 1);
    expect(texts(".edif-setting")).toEqual(["window 5", "noise 3"]);
    // 0.4 where the other one has 0.8 and −0.1: not the whole of the scale
    expect(steps()).toEqual(["s3", "s3", "s17", "s3"]);
    expect(one(".edif-live").textContent).toBe("window 5, noise 3");
  });

  it("keeps what the reader has chosen from one to the next", () => {
    draw(host, series());
    one('button[data-name="mlp"]').click();
    cell(0, 1).click();
    move(1, 1);
    expect(one('button[data-name="mlp"]').getAttribute("aria-pressed")).toBe("true");
    expect(cell(0, 1).classList.contains("edif-pinned")).toBe(true);
  });

  it("keeps the keys of its sliders from the notebook around it", () => {
    draw(host, series());
    const heard: string[] = [];
    host.addEventListener("keydown", ({ key }) => void heard.push(key));
    sliders()[0]?.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
    expect(heard).toEqual([]);
  });

  it("says where there is no result", () => {
    draw(host, series());
    move(0, 1);
    move(1, 1);
    expect(host.textContent).toContain("There is no result for these settings");
    move(1, 0);
    expect(one(".edif-note").textContent).toContain("one layer’s output");
  });

  it("without any result is none", () => {
    draw(host, series({ places: [null, null, null, null] }));
    expect(one(".edif-problem p").textContent).toContain("none of its results has a place");
  });
});

describe("a trace's line plot", () => {
  it("has a line for each kind, and the spread about the chosen one", () => {
    draw(host, trace());
    expect(texts(".edif-lines > span")).toEqual(["state", "mlp"]);
    expect(one("path.edif-band-of").classList.contains("edif-blue")).toBe(true);
    one('button[data-name="mlp"]').click();
    expect(one("path.edif-band-of").classList.contains("edif-orange")).toBe(true);
  });
});

describe("kinds that are none", () => {
  const markup = '<img src=x onerror="document.title=1">';
  const bad: [string, unknown, string][] = [
    ["strengths that are none", steering({ strengths: ["a"] }), "its strengths"],
    [
      "changes too few",
      steering({ prompts: [{ tokens: [0], unsteered: [1, 0], change: [1] }] }),
      "its change",
    ],
    ["too many cells", steering({ strengths: Array(300).fill(0) }), "its strengths"],
    [
      "a text that is none",
      steering({ prompts: [{ ...(steering().prompts as object[])[0], texts: [1, 2, 3, 4, 5, 6] }] }),
      "is no text",
    ],
    ["accuracies too few", probe({ accuracy: [1] }), "its mean"],
    ["effects too few", probe({ effects: { mean: [], low: [], high: [] } }), "its mean"],
    ["a mean too short", comparison({ mean: {} }), "one of its means"],
    ["models that are none", comparison({ models: ["one"] }), "2 models"],
    ["results without end", series({ results: Array(61).fill(trace()) }), "its results"],
    ["places too few", series({ places: [0] }), "its places"],
  ];

  it.each(bad)("answers %s with a sentence", (_name, data, sentence) => {
    draw(host, data);
    expect(host.querySelector(".edif-problem p")?.textContent).toContain(sentence);
  });

  it("draws markup as text, wherever it stands", () => {
    draw(
      host,
      steering({ unit: markup, view: { sheet: 1 }, metrics: [markup, markup], ablations: [markup] }),
    );
    draw(
      document.body.appendChild(document.createElement("div")),
      probe({ classes: [markup], towards: [markup, markup], positions: [markup, markup] }),
    );
    draw(
      document.body.appendChild(document.createElement("div")),
      comparison({ models: [markup, markup], sides: [] }),
    );
    expect(document.querySelectorAll(".edif-grid").length).toBe(3);
    expect(document.querySelector("img")).toBeNull();
  });
});

describe("what is not complete", () => {
  it("says so at its top, in every kind", () => {
    const foot = "NOT COMPLETE: stopped after 3 of 9 steps · 1.0 s beside the weights";
    const bare = (changes?: Record<string, unknown>) => lens(3, changes);
    for (const make of [bare, patching, trace, steering, probe, comparison]) {
      draw(host, make({ foot }));
      expect(one(".edif-head .edif-warning").textContent).toBe("NOT COMPLETE: stopped after 3 of 9 steps");
      draw(host, make());
      expect(host.querySelector(".edif-head .edif-warning")).toBeNull();
    }
  });
});
