import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { draw } from "../src/core/draw.ts";
import { cell, freshPage, host, one, type } from "./page.ts";
import { lens, patching } from "./results.ts";

freshPage();

let made: Blob[];

beforeEach(() => {
  made = [];
  URL.createObjectURL = (blob) => {
    made.push(blob as Blob);
    return "#";
  };
  URL.revokeObjectURL = () => {};
});
afterEach(() => vi.restoreAllMocks());

async function exported(): Promise<Record<string, unknown>> {
  await vi.waitFor(() => expect(made).not.toEqual([]));
  const reader = new FileReader();
  return new Promise((resolve) => {
    reader.onload = () => resolve(JSON.parse(String(reader.result)));
    reader.readAsText(made.at(-1) as Blob);
  });
}

it("gives a lens as JSON with pins, metric and opened layers, and draws it the same again", async () => {
  const data = lens(30);
  draw(host, data);
  cell(0, 1).click();
  one(".edif-band").click();
  type("m");
  type("e");
  expect(document.activeElement?.textContent).toBe("PNG");
  one(".edif-menu button:last-child").click();
  const kept = await exported();
  expect({ ...kept, view: undefined }).toEqual({ ...data, view: undefined });
  expect(kept.view).toMatchObject({ metric: "rank", pins: [12], prompt: 0 });
  const before = one(".edif-main").innerHTML;
  draw(host, kept);
  expect(one(".edif-main").innerHTML.replaceAll(/tabindex="-?\d"/g, "")).toBe(
    before.replaceAll(/tabindex="-?\d"/g, ""),
  );
});

it("gives a map as JSON with what is chosen and pinned", async () => {
  draw(host, patching());
  one('button[data-name="noise"]').click();
  cell(1, 2).click();
  type("e");
  one(".edif-menu button:last-child").click();
  const kept = await exported();
  expect(kept.view).toMatchObject({ switches: { direction: "noise" }, pin: [1, 2] });
  draw(host, kept);
  expect(one('button[data-name="noise"]').getAttribute("aria-pressed")).toBe("true");
  expect(cell(1, 2).classList.contains("edif-pinned")).toBe(true);
});

it("is a menu for the keyboard", () => {
  draw(host, patching());
  cell(0, 1).focus();
  type("e");
  type("ArrowDown");
  expect(document.activeElement?.textContent).toBe("SVG");
  type("ArrowUp");
  type("ArrowUp");
  expect(document.activeElement?.textContent).toBe("JSON");
  type("Escape");
  expect(one(".edif-menu").hidden).toBe(true);
  expect(document.activeElement?.textContent).toBe("Export ▾");
});

it("ignores a kept view that is nonsense", () => {
  draw(host, patching({ view: { sheet: 9, switches: 3, place: "x", pin: [99, 99] } }));
  expect(host.querySelector(".edif-problem")).toBeNull();
  expect(host.querySelector("td.edif-pinned")).toBeNull();
});
