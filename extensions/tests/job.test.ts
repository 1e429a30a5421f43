import { describe, expect, it } from "vitest";
import { draw } from "../src/core/draw.ts";
import type { Place } from "../src/core/place.ts";
import { cell, freshPage, host, one, texts, type } from "./page.ts";
import { patching } from "./results.ts";

freshPage();

function job(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    version: 1,
    kind: "job",
    title: "activation patching",
    handle: "ab12",
    state: "RUNNING",
    description: "",
    done: 260,
    total: 420,
    left_s: 9.2,
    seconds: 14.1,
    log: [],
    error: null,
    folded: false,
    result: null,
    ...changes,
  };
}

describe("a job", () => {
  it("is one line: what it does, how far it is, what is left, and Cancel", () => {
    const ended: string[] = [];
    draw(host, job(), { cancel: (handle) => ended.push(handle) });
    expect(one(".edif-line").textContent).toBe(
      "Runningactivation patching · 260 of 420about 9.2 s leftCancel",
    );
    expect(one('[role="progressbar"]').getAttribute("aria-valuenow")).toBe("260");
    one("button").click();
    expect(ended).toEqual(["ab12"]);
    expect((one("button") as HTMLButtonElement).disabled).toBe(true);
  });

  it("offers Cancel only where a kernel is at hand, and while it runs", () => {
    draw(host, job());
    expect(host.querySelector("button")).toBeNull();
    draw(host, job({ state: "CANCELLED" }), { cancel: () => {} });
    expect(host.querySelector("button")).toBeNull();
  });

  it("says how many are before it and when it starts", () => {
    const waits = { state: "QUEUED", description: "3 jobs start before this one; it starts in about 40 s." };
    draw(host, job({ ...waits, done: 0, total: 0, left_s: null }));
    expect(one(".edif-line").textContent).toBe(
      "Waitingactivation patching · 3 jobs start before this one; it starts in about 40 s.",
    );
  });

  it("shows what is known so far as the result's own view", () => {
    draw(host, job({ result: patching() }));
    expect(host.querySelectorAll(".edif-partial td[data-column]")).toHaveLength(9);
  });

  it("gives the error its place: the line, the cause", () => {
    const error = { line: "hidden[99] = 0", cause: "IndexError: index 99 is out of bounds" };
    draw(host, job({ state: "ERROR", error, result: patching() }));
    expect(one('[role="alert"]').textContent).toBe("hidden[99] = 0IndexError: index 99 is out of bounds");
    expect(host.querySelector(".edif-partial")).toBeNull();
  });

  it("shows what was printed on the server", () => {
    draw(host, job({ state: "COMPLETED", log: ["one", "<b>two</b>"] }));
    expect(texts("pre")).toEqual(["one\n<b>two</b>"]);
    expect(host.querySelector("b")).toBeNull();
  });

  it("changes in place while it runs: Cancel stays what the pointer and the keyboard have", () => {
    const ended: string[] = [];
    const place = { cancel: (handle: string) => ended.push(handle) };
    draw(host, job({ done: 0, total: 0, left_s: null, state: "QUEUED" }), place);
    const [line, button] = [one(".edif-job"), one("button")];
    button.focus();
    draw(host, job({ log: ["one"] }), place);
    draw(host, job({ done: 300, log: ["one", "two"] }), place);
    expect(one(".edif-job")).toBe(line);
    expect(document.activeElement).toBe(button);
    expect(one('[role="progressbar"]').getAttribute("aria-valuenow")).toBe("300");
    expect(one("pre").textContent).toBe("one\ntwo");
    button.click();
    draw(host, job({ done: 310 }), place);
    expect(one("button").textContent).toBe("Cancelling …");
    expect(ended).toEqual(["ab12"]);
    draw(host, job({ state: "CANCELLED", description: "Stopped after 310 of 420 cells." }), place);
    expect(host.querySelector("button")).toBeNull();
    expect(document.activeElement).toBe(line); // not the notebook, which would take letters for commands
  });

  it("keeps what is chosen among tiles as more of them come", () => {
    draw(host, job({ result: patching() }));
    cell(1, 1).click();
    expect(document.activeElement).toBe(cell(1, 1));
    const known = one(".edif-partial");
    draw(host, job({ done: 400, result: patching() }));
    expect(one(".edif-partial")).not.toBe(known);
    expect(texts(".edif-pinned")).toHaveLength(1);
    expect(cell(1, 1).classList.contains("edif-pinned")).toBe(true);
    expect(document.activeElement).toBe(cell(1, 1));
  });

  it("is drawn anew for another job", () => {
    draw(host, job());
    const line = one(".edif-job");
    draw(host, job({ handle: "cd34", title: "logit lens" }));
    expect(one(".edif-job")).not.toBe(line);
    expect(one(".edif-doing").textContent).toContain("logit lens");
  });

  it("leaves nothing of itself when the result says it all", () => {
    draw(host, job({ state: "COMPLETED", folded: true }));
    expect(one(".edif-job").hidden).toBe(true);
  });

  it.each([{ done: -1 }, { total: "9" }, { error: 3 }, { description: {} }])(
    "answers %j with a sentence",
    (bad) => {
      draw(host, job(bad));
      expect(one(".edif-problem p").textContent).toContain("cannot be drawn");
    },
  );
});

type Known = { values: Record<string, unknown[]> };

describe("what can be run next", () => {
  function running(): { codes: string[]; place: Place } {
    const codes: string[] = [];
    return { codes, place: { run: (code) => codes.push(code) } };
  }

  it("is a line of code that a click runs, from a cell or from a pinned one", () => {
    const { codes, place } = running();
    draw(host, patching({ handle: "ab12" }), place);
    cell(1, 1).click();
    one(".edif-act button").click();
    expect(codes).toEqual([
      'edif.shown("ab12").patched_lens(layer=1, position=1, site="residual", direction="denoise")',
    ]);
    cell(0, 2).focus();
    type("p");
    expect(codes[1]).toContain("(layer=2, position=2, source=(1, 1),");
    type("o");
    expect(codes[2]).toContain("(layer=2, position=2, site");
  });

  it("is run by drawing one cell onto another", () => {
    const { codes, place } = running();
    draw(host, patching({ handle: "ab12" }), place);
    cell(2, 1).dispatchEvent(new Event("pointerdown", { bubbles: true }));
    expect(cell(2, 1).classList.contains("edif-taken")).toBe(true);
    cell(0, 2).dispatchEvent(new Event("pointerup", { bubbles: true }));
    expect(codes).toHaveLength(1);
    expect(codes[0]).toContain("(layer=2, position=2, source=(0, 1),");
    expect(host.querySelector(".edif-taken")).toBeNull();
  });

  it("is not run by a drag that ends where it began, or elsewhere on the page", () => {
    const { codes, place } = running();
    draw(host, patching({ handle: "ab12" }), place);
    for (const end of [cell(2, 1), document.body]) {
      cell(2, 1).dispatchEvent(new Event("pointerdown", { bubbles: true }));
      end.dispatchEvent(new Event("pointerup", { bubbles: true }));
      expect(host.querySelector(".edif-taken")).toBeNull();
    }
    cell(0, 2).dispatchEvent(new Event("pointerup", { bubbles: true }));
    expect(codes).toEqual([]);
  });

  it("is a file with all of it, where the drawing leaves something out", () => {
    const { codes, place } = running();
    draw(host, patching({ handle: "ab12", reduced: true }), place);
    one(".edif-foot button").click();
    expect(codes).toEqual([
      'from IPython.display import FileLink\nFileLink(edif.shown("ab12").save("activation_patching-ab12.edif"))',
    ]);
    for (const bad of [{ handle: "ab12" }, { reduced: true }, { handle: '")', reduced: true }]) {
      draw(host, patching(bad), place);
      expect(host.querySelector(".edif-foot button")).toBeNull();
    }
    draw(host, patching({ handle: "ab12", reduced: true }));
    expect(host.querySelector(".edif-foot button")).toBeNull();
  });

  it("takes a head to another head", () => {
    const { codes, place } = running();
    draw(host, patching({ handle: "ab12" }), place);
    one('button[data-name="head"]').click();
    cell(2, 1).dispatchEvent(new Event("pointerdown", { bubbles: true }));
    cell(0, 0).dispatchEvent(new Event("pointerup", { bubbles: true }));
    expect(codes[0]).toContain('(layer=2, position=2, head=0, source=(0, 2, 1), site="head"');
  });

  it("is not offered without a kernel, for what cannot be, nor where names could be code", () => {
    draw(host, patching({ handle: "ab12" }));
    expect(host.querySelector(".edif-act")).toBeNull();
    const { sites, pairs } = patching() as { sites: { name: string }[]; pairs: { runs: Known[] }[] };
    for (const { values } of pairs.flatMap(({ runs }) => runs)) values.pattern = values.residual ?? [];
    const pattern = { ...sites.find(({ name }) => name === "residual"), name: "pattern" };
    draw(host, patching({ handle: "ab12", sites: [pattern], pairs, mean: null }), running().place);
    expect(one(".edif-legend").textContent).toContain("pattern");
    expect(host.querySelector(".edif-act")).toBeNull();
    const { place } = running();
    for (const bad of [{ handle: '")' }, { handle: "ab12", directions: ['"+x+"', "noise"] }]) {
      draw(host, patching(bad), place);
      expect(host.querySelector(".edif-act")).toBeNull();
    }
  });
});
