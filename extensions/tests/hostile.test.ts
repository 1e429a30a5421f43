import { beforeEach, describe, expect, it } from "vitest";
import { draw } from "../src/core/draw.ts";
import { paris } from "./results.ts";

const MARKUP = '<img src=x onerror="document.title=1"><script>document.title=2</script>';
const TOKEN = { id: 1, text: "x", probability: 0.5, logit: 1 };

let host: HTMLElement;

beforeEach(() => {
  document.head.replaceChildren();
  host = document.createElement("div");
  document.body.replaceChildren(host);
});

describe("what a result may not do", () => {
  it("draws markup as text, wherever it stands", () => {
    draw(
      host,
      paris({
        title: MARKUP,
        foot: MARKUP,
        provenance: { model: MARKUP, dtype: MARKUP, bos: MARKUP, prompt: MARKUP },
        tokens: [{ ...TOKEN, text: MARKUP }],
      }),
    );
    expect(host.querySelector("img, script")).toBeNull();
    expect(host.querySelector("tbody th")?.textContent).toContain("<img␣src=x");
  });

  it("shows text that would hide or turn around what follows", () => {
    draw(host, paris({ tokens: [{ ...TOKEN, text: "a\u202Eb\u200B\u00A0\t\u0000" }], title: "T\u202E\nU" }));
    expect(host.querySelector("tbody th")?.textContent).toBe("a⟨U+202E⟩b⟨U+200B⟩⟨U+00A0⟩⇥⟨U+0000⟩");
    expect(host.querySelector(".edif-title")?.textContent).toBe("T⟨U+202E⟩↵U");
  });

  it("shows an empty token", () => {
    draw(host, paris({ tokens: [{ ...TOKEN, text: "" }] }));
    expect(host.querySelector("tbody th")?.textContent).toBe("∅");
  });

  const cyclic: Record<string, unknown> = { kind: "next_tokens" };
  cyclic.tokens = [cyclic];
  const malformed: [string, unknown, string][] = [
    ["nothing", undefined, "not an object"],
    ["null", null, "not an object"],
    ["a text", MARKUP, "not an object"],
    ["a list", [], "not an object"],
    ["a cycle", cyclic, "token 1"],
    ["a number too large for JSON", { kind: 10n }, "does not know"],
    ["an unknown kind", { kind: MARKUP }, "open it with a newer workbench"],
    ["a kind of every object", { kind: "constructor" }, "does not know"],
    ["a newer version", paris({ version: 2 }), "version 2"],
    ["no tokens", paris({ tokens: [] }), "no list of tokens"],
    ["tokens that are none", paris({ tokens: { length: 3 } }), "no list of tokens"],
    ["a token that is none", paris({ tokens: [null] }), "token 1 is not an object"],
    ["a token without text", paris({ tokens: [{ ...TOKEN, text: 3 }] }), "token 1 has no text"],
    ["an endless token", paris({ tokens: [{ ...TOKEN, text: "x".repeat(5000) }] }), "more than a token has"],
    ["a probability over one", paris({ tokens: [{ ...TOKEN, probability: 2 }] }), "not within 0 and 1"],
    [
      "a probability that is text",
      paris({ tokens: [{ ...TOKEN, probability: "url(//x)" }] }),
      "is not a number",
    ],
    ["a logit that is none", paris({ tokens: [{ ...TOKEN, logit: Number.NaN }] }), "the logit of token 1"],
    ["a title that is none", paris({ title: { toString: 1 } }), "its title"],
    ["a provenance that is none", paris({ provenance: "x" }), "provenance is not an object"],
  ];

  it.each(malformed)("answers %s with a sentence and the raw result", (_name, data, sentence) => {
    draw(host, data);
    expect(host.querySelector(".edif-problem p")?.textContent).toContain(sentence);
    expect(host.querySelector<HTMLDetailsElement>("details")?.open).toBe(false);
    expect(host.querySelector("details pre")).not.toBeNull();
    expect(host.querySelector("img, script")).toBeNull();
  });

  it("bounds the raw result", () => {
    draw(host, { kind: "x", text: "y".repeat(1_000_000) });
    expect(host.querySelector("pre")?.textContent?.length).toBeLessThan(60_000);
  });

  it("survives a result whose fields throw", () => {
    const trap = {
      get kind(): string {
        throw new Error("no");
      },
    };
    draw(host, trap);
    expect(host.querySelector(".edif-problem")?.textContent).toContain("the viewer failed on it");
  });
});
