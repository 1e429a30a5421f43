// Draws attention: heads as thumbnails, one of them large, and its prompt with the tokens that a token looks at.
// Maps are canvases, so 500 tokens stay fluid; the prompt beside them is text, for keyboard and screen readers.
// Called by draw.ts.
import type { AttentionChoice, AttentionPrompt, HeadMap } from "./attention-result.ts";
import { card, press, promptLine, segments } from "./card.ts";
import { element } from "./dom.ts";
import { paintMap, whenThemeChanges } from "./heat-canvas.ts";
import { arrange, bars, choice, heading, legendOf, plainTable, stepOf, stepTo } from "./parts.ts";
import type { Place } from "./place.ts";
import type { Attention } from "./result.ts";
import { SEQUENTIAL } from "./scale.ts";
import { probabilityFigure, signedFigure, visibleLine, wordOf } from "./text.ts";

const KEYS: [string, string][] = [
  ["←→", "token"],
  ["↑↓", "head"],
  ["Enter", "lock"],
  ["m", "direction"],
  ["t", "table"],
  ["e", "export"],
];
const WAYS = ["looks at", "is looked at by"] as const;
/** Heads that are shown at first, and that each "more" adds. */
const SHOWN = 24;
const THUMB = 44;
const LARGE = 360;
const LISTED = 8;

export function drawAttention(result: Attention, place: Place): HTMLElement {
  const view = new AttentionView(result);
  place.watch?.(() => view.chosen);
  return view.node;
}

class AttentionView {
  readonly node: HTMLElement;
  readonly #result: Attention;
  readonly #card: ReturnType<typeof card>;
  readonly #frame: ReturnType<typeof arrange>;
  readonly #ways: HTMLElement;
  readonly #list: HTMLSelectElement | undefined;
  readonly #body = element("div", { class: "edif-attention" });
  readonly #heads = element("div", {
    class: "edif-heads",
    attributes: { role: "group", "aria-label": "heads, those that matter most first" },
  });
  readonly #map = element("canvas", { class: "edif-heat", attributes: { role: "img" } });
  readonly #words = element("div", { class: "edif-prompt", attributes: { role: "listbox", tabindex: "0" } });
  #at = 0;
  #head = 0;
  #shown = SHOWN;
  #way: (typeof WAYS)[number] = "looks at";
  #token = 0;
  #locked = false;

  constructor(result: Attention) {
    this.#result = result;
    this.#card = card(result.title, result.provenance, KEYS, result.foot);
    this.node = this.#card.node;
    if (result.prompts.length > 1) {
      const names = result.prompts.map(({ prompt }, n) => `${n + 1}: ${visibleLine(prompt)}`);
      this.#list = choice("prompt", names, (at) => this.#turn(at));
      this.#card.controls.append(this.#list);
    }
    this.#ways = segments("direction", [...WAYS], (name) => this.#face(name as (typeof WAYS)[number]));
    this.#card.controls.append(this.#ways);
    this.#body.append(this.#heads, element("div", { class: "edif-beside" }, this.#map, this.#words));
    const body = {
      node: this.#body,
      focus: () => this.#words.focus(),
      key: (key: string) => this.#key(key),
    };
    this.#frame = arrange(this.#card, {
      middle: () => body,
      table: () => this.#table(),
      keys: { m: () => this.#face(this.#way === WAYS[0] ? WAYS[1] : WAYS[0]) },
      file: { title: result.title, data: () => ({ ...result.raw, view: this.chosen }) },
    });
    this.#frame.legend.replaceChildren(...legendOf(SEQUENTIAL, "0", "1", "attention weight"));
    this.#listen();
    const kept = result.view;
    if (this.#list !== undefined && kept.prompt in result.prompts) this.#list.selectedIndex = kept.prompt;
    this.#turn(kept.prompt in result.prompts ? kept.prompt : 0);
    this.#restore(kept);
    whenThemeChanges(this.node, () => this.#paint());
  }

  get #prompt(): AttentionPrompt {
    return this.#result.prompts[this.#at] as AttentionPrompt;
  }

  get #looked(): HeadMap {
    return this.#prompt.maps[this.#head] as HeadMap;
  }

  /** What the reader has chosen, to be kept with the result. */
  get chosen(): Record<string, unknown> {
    const { layer, head } = this.#looked;
    return {
      prompt: this.#at,
      head: [layer, head],
      way: this.#way,
      token: this.#token,
      locked: this.#locked,
    };
  }

  /** What was chosen when the result was kept, where it is still there. */
  #restore({ head, way, token, locked }: AttentionChoice): void {
    const found = this.#prompt.maps.findIndex((map) => map.layer === head?.[0] && map.head === head[1]);
    if (token in this.#prompt.tokens) this.#token = token;
    this.#locked = locked;
    if (found >= 0) this.#choose(found);
    this.#face(way === WAYS[1] ? way : WAYS[0]);
  }

  #turn(at: number): void {
    this.#at = at;
    const { prompt, tokens } = this.#prompt;
    this.#card.origin.textContent = promptLine(this.#result.provenance, this.#prompt);
    this.#head = 0;
    this.#locked = false;
    this.#token = tokens.length - 1;
    this.#words.setAttribute("aria-label", `tokens of ${visibleLine(prompt)}`);
    this.#words.replaceChildren(
      ...tokens.map((_, n) =>
        element("span", {
          class: "edif-piece",
          text: this.#text(n),
          attributes: { role: "option", "data-token": String(n) },
        }),
      ),
    );
    this.#frame.place();
    this.#paint();
    this.#face(this.#way);
  }

  #face(way: (typeof WAYS)[number]): void {
    this.#way = way;
    press(this.#ways, way);
    this.#refresh();
    this.#frame.say(`${this.#text(this.#token)} ${way}`);
  }

  #choose(head: number): void {
    this.#head = Math.min(Math.max(head, 0), this.#prompt.maps.length - 1);
    if (this.#head >= this.#shown) this.#shown = this.#head + 1;
    this.#paint();
    this.#refresh();
    this.#frame.say(this.#name(this.#looked));
  }

  /** Every canvas: after another head or prompt was chosen, or the theme has changed. */
  #paint(): void {
    const { maps, tokens } = this.#prompt;
    const thumbs = maps.slice(0, this.#shown).map((map, n) => {
      const canvas = element("canvas", { class: "edif-heat", attributes: { "aria-hidden": "true" } });
      paintMap(canvas, map.weights, tokens.length, THUMB);
      const label = element("span", { text: `${map.layer}.${map.head}` });
      const attributes = {
        type: "button",
        "aria-label": this.#name(map),
        "aria-pressed": String(n === this.#head),
      };
      const button = element("button", { class: "edif-thumb", attributes }, canvas, label);
      button.addEventListener("click", () => this.#choose(n));
      return button;
    });
    const left = maps.length - this.#shown;
    if (left > 0) {
      const more = element("button", { text: `${left} more`, attributes: { type: "button" } });
      more.addEventListener("click", () => {
        this.#shown += SHOWN;
        this.#paint();
      });
      thumbs.push(more);
    }
    // The keyboard stays on the head that it has chosen.
    const focused = this.#heads.contains(document.activeElement);
    this.#heads.replaceChildren(...thumbs);
    if (focused) thumbs[this.#head]?.focus();
    paintMap(this.#map, this.#looked.weights, tokens.length, LARGE);
    this.#map.setAttribute("aria-label", `${this.#name(this.#looked)}: queries downwards, keys to the right`);
  }

  /** Tokens by weight, and the panel. */
  #refresh(): void {
    for (const [n, piece] of [...this.#words.children].entries()) this.#shade(piece as HTMLElement, n);
    const found = this.#strongest(this.#token);
    this.#frame.panel.replaceChildren(
      heading(this.#name(this.#looked)),
      heading(`${this.#text(this.#token)} ${this.#way}${this.#locked ? " (locked)" : ""}`),
      bars(
        found.map(([n, part]) => ({
          text: `${n} ${this.#text(n)}`,
          part,
          figure: part === 0 ? "0" : probabilityFigure(part),
        })),
      ),
      element("p", { class: "edif-note", text: "Weights are kept in steps of 1/255." }),
    );
  }

  /** Only what differs is written: 500 tokens follow the pointer. */
  #shade(piece: HTMLElement, n: number): void {
    const [query, key] = this.#way === "looks at" ? [this.#token, n] : [n, this.#token];
    const step = key > query ? "" : stepOf(this.#weight(query, key), 0, 1);
    if (piece.dataset.step !== step) piece.dataset.step = step;
    const here = n === this.#token;
    if (String(here) !== piece.getAttribute("aria-selected"))
      piece.setAttribute("aria-selected", String(here));
    if (!here) return;
    piece.id ||= `edif-piece-${identity()}`;
    this.#words.setAttribute("aria-activedescendant", piece.id);
  }

  #strongest(token: number, most = LISTED): [number, number][] {
    const found = this.#prompt.tokens.map((_, n): [number, number] =>
      this.#way === "looks at" ? [n, this.#weight(token, n)] : [n, this.#weight(n, token)],
    );
    return found.sort((one, other) => other[1] - one[1]).slice(0, most);
  }

  /** 0 where a key comes after the query. */
  #weight(query: number, key: number): number {
    if (key > query) return 0;
    return (this.#looked.weights[(query * (query + 1)) / 2 + key] as number) / 255;
  }

  #look(token: number): void {
    if (this.#locked || token === this.#token || Number.isNaN(token)) return;
    this.#token = token;
    this.#refresh();
  }

  #lock(token: number): void {
    this.#locked = !(this.#locked && token === this.#token);
    this.#token = token;
    this.#refresh();
    this.#frame.say(`${this.#text(token)} ${this.#locked ? "locked" : "no longer locked"}`);
  }

  #listen(): void {
    const tokenOf = (event: Event): number => {
      if (event.target !== this.#map)
        return Number((event.target as HTMLElement).dataset.token ?? Number.NaN);
      const { left, top, width, height } = this.#map.getBoundingClientRect();
      const { clientX, clientY } = event as PointerEvent;
      const part = this.#way === "looks at" ? (clientY - top) / height : (clientX - left) / width;
      const count = this.#prompt.tokens.length;
      return Math.min(count - 1, Math.max(0, Math.floor(part * count)));
    };
    for (const node of [this.#words, this.#map]) {
      node.addEventListener("pointermove", (event) => this.#look(tokenOf(event)));
      node.addEventListener("click", (event) => {
        const token = tokenOf(event);
        if (!Number.isNaN(token)) this.#lock(token);
      });
    }
  }

  #key(key: string): boolean {
    if (key === "ArrowUp" || key === "ArrowDown") {
      this.#choose(this.#head + (key === "ArrowUp" ? -1 : 1));
      return true;
    }
    if (document.activeElement !== this.#words) return false;
    const goal = stepTo(key, this.#token, this.#prompt.tokens.length, ["ArrowLeft", "ArrowRight"]);
    if (key === "Enter" || key === " ") this.#lock(this.#token);
    else if (goal === undefined) return false;
    else {
      this.#locked = false;
      this.#look(goal);
      this.#words.children[this.#token]?.scrollIntoView?.({ block: "nearest" });
    }
    return true;
  }

  #table(): HTMLTableElement {
    const rows = this.#prompt.tokens.map((_, token) => {
      const found = this.#strongest(token, 3);
      const texts = found.map(([n, part]) => `${n} ${this.#text(n)} ${part.toFixed(3)}`);
      return [`${token} ${this.#text(token)}`, ...texts, ...Array(3 - texts.length).fill("")];
    });
    return plainTable(
      `${this.#name(this.#looked)}: what each token ${this.#way} most`,
      ["token", "first", "second", "third"],
      rows,
    );
  }

  #name({ layer, head, effect }: HeadMap): string {
    const known = Number.isNaN(effect) ? "" : `, effect ${signedFigure(effect)}`;
    return `${layer}.${head}: layer ${layer}, head ${head}${known}`;
  }

  #text(at: number): string {
    const token = this.#prompt.tokens[at] as number;
    return wordOf(this.#result.words, token);
  }
}

let identities = 0;

/** A number that no other element of the page has. */
function identity(): number {
  identities += 1;
  return identities;
}
