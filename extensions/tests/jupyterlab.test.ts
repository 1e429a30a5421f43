import { beforeAll, expect, it } from "vitest";
import { MIME_TYPE } from "../src/core/result.ts";
import { paris } from "./results.ts";

interface Container {
  init(scope: object): void;
  get(name: string): Promise<() => { rendererFactory: Factory }>;
}
interface Factory {
  mimeTypes: string[];
  safe: boolean;
  createRenderer(): { node: HTMLElement; renderModel(model: object): Promise<void> };
}

class Widget {
  readonly node = document.createElement("div");
}

let container: Container;

beforeAll(async () => {
  await import("../src/hosts/federation.ts");
  container = window._JUPYTERLAB?.["edif-widgets"] as Container;
});

it("says what is missing where the page shares no widgets", async () => {
  container.init({});
  await expect(container.get("./mimeExtension")).rejects.toThrow("@lumino/widgets");
});

it("refuses modules that it does not have", async () => {
  await expect(container.get("./other")).rejects.toThrow("./other");
});

it("draws a result in a widget of the page's own class", async () => {
  container.init({ "@lumino/widgets": { "2.9.0": { get: () => Promise.resolve(() => ({ Widget })) } } });
  const { rendererFactory } = (await container.get("./mimeExtension"))();
  expect(rendererFactory.mimeTypes).toEqual([MIME_TYPE]);
  const output = rendererFactory.createRenderer();
  expect(output).toBeInstanceOf(Widget);
  await output.renderModel({ data: { [MIME_TYPE]: paris() } });
  expect(output.node.querySelector("tbody th")?.textContent).toBe("␣Paris");
});
