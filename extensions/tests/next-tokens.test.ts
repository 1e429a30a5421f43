import { beforeEach, describe, expect, it } from "vitest";
import { draw } from "../src/core/draw.ts";
import { MAX_ROWS } from "../src/core/result.ts";
import { paris } from "./results.ts";

let host: HTMLElement;

beforeEach(() => {
  document.head.replaceChildren();
  document.body.replaceChildren();
  host = document.createElement("div");
  document.body.append(host);
});

function texts(selector: string): (string | null)[] {
  return [...host.querySelectorAll(selector)].map((node) => node.textContent);
}

function one(selector: string): HTMLElement {
  const found = host.querySelector<HTMLElement>(selector);
  if (found === null) throw new Error(`nothing drawn for ${selector}`);
  return found;
}

function type(key: string, target = document.activeElement): boolean {
  const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
  target?.dispatchEvent(event);
  return event.defaultPrevented;
}

describe("next tokens", () => {
  it("shows title, provenance, tokens, figures and foot", () => {
    draw(host, paris());
    expect(one(".edif-title").textContent).toBe("Next token");
    expect(one(".edif-provenance").textContent).toBe(
      "edif/smollm2-135m-demo · float32 · no BOS · “The Eiffel Tower is in the city of”",
    );
    expect(texts("tbody th")).toEqual(["␣Paris", "␣Rome", "↵"]);
    expect(texts('tbody [data-column="probability"]')).toEqual(["0.656", "0.038", "1.2e−4"]);
    expect(texts('tbody [data-column="logit"]')).toEqual(["18.42", "15.57", "−9.85"]);
    expect(one(".edif-foot").textContent).toContain("12 KB received");
  });

  it("is a labelled table with headers for columns and rows", () => {
    draw(host, paris());
    expect(one("table").getAttribute("aria-label")).toContain("“The Eiffel Tower");
    expect(texts('thead th[scope="col"]:not([aria-hidden])')).toEqual(["token", "probability", "logit"]);
    expect(host.querySelectorAll('tbody th[scope="row"]')).toHaveLength(3);
  });

  it("draws a bar from the probability and a dot from the logit", () => {
    draw(host, paris());
    const marks = [...host.querySelectorAll<HTMLElement>("td.edif-mark")];
    expect(marks.map((mark) => mark.style.getPropertyValue("--p"))).toEqual(["0.656", "0.038", "0.0001234"]);
    expect(marks.map((mark) => Number(mark.style.getPropertyValue("--l")).toFixed(2))).toEqual([
      "1.00",
      "0.90",
      "0.00",
    ]);
  });

  it("moves with the arrow keys, Home and End, and stays within the rows", () => {
    draw(host, paris());
    const rows = [...host.querySelectorAll<HTMLElement>("tbody tr")];
    rows[0]?.focus();
    expect(type("ArrowDown")).toBe(true);
    expect(document.activeElement).toBe(rows[1]);
    type("End");
    type("ArrowDown");
    expect(document.activeElement).toBe(rows[2]);
    expect(rows.map((row) => row.tabIndex)).toEqual([-1, -1, 0]);
    type("Home");
    type("ArrowUp");
    expect(document.activeElement).toBe(rows[0]);
  });

  it("changes the metric with m and with the switch", () => {
    draw(host, paris());
    expect(one(".edif-card").dataset.metric).toBe("probability");
    type("m", one("tbody tr"));
    expect(one(".edif-card").dataset.metric).toBe("logit");
    expect(one(".edif-legend").textContent).toContain("−9.85");
    expect(one('button[data-name="logit"]').getAttribute("aria-pressed")).toBe("true");
    one('button[data-name="probability"]').click();
    expect(one(".edif-card").dataset.metric).toBe("probability");
  });

  it("keeps the keys it handles from the notebook, and no others", () => {
    draw(host, paris());
    const heard: string[] = [];
    document.body.addEventListener("keydown", (event) => heard.push(event.key));
    for (const key of ["m", "ArrowDown", "a", "toString"]) type(key, one("tbody tr"));
    expect(heard).toEqual(["a", "toString"]);
    one("tbody tr").dispatchEvent(new KeyboardEvent("keydown", { key: "m", ctrlKey: true, bubbles: true }));
    expect(heard).toEqual(["a", "toString", "m"]);
  });

  it("counts the rows that it does not draw", () => {
    const token = { id: 1, text: "x", probability: 0, logit: 0 };
    draw(host, paris({ tokens: Array.from({ length: MAX_ROWS + 7 }, () => token) }));
    expect(host.querySelectorAll("tbody tr")).toHaveLength(MAX_ROWS);
    expect(one(".edif-foot").textContent).toContain("7 more tokens not drawn");
  });

  it("places dots even for huge and for equal logits", () => {
    const token = { id: 1, text: "x", probability: 0.5 };
    draw(
      host,
      paris({
        tokens: [
          { ...token, logit: 1.7e308 },
          { ...token, logit: -1.7e308 },
        ],
      }),
    );
    const marks = [...host.querySelectorAll<HTMLElement>("td.edif-mark")];
    expect(marks.map((mark) => mark.style.getPropertyValue("--l"))).toEqual(["1", "0"]);
    draw(host, paris({ tokens: [{ ...token, logit: 3 }] }));
    expect(one("td.edif-mark").style.getPropertyValue("--l")).toBe("1");
  });
});
