// Writes down what a card shows, as SVG: boxes, lines, text and pictures where the browser has put them, in the colours
// of the theme, pins and all.  Nothing is laid out a second time.  Called by files.ts.
import { element } from "./dom.ts";

const EDGE = 8;
const SVG = "http://www.w3.org/2000/svg";
const DRAWN = [
  "fill",
  "fill-opacity",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "font-family",
  "font-size",
  "text-anchor",
];

/** The card with everything that is scrolled away, without its controls. */
export function snapshot(card: HTMLElement): { svg: string; width: number; height: number } {
  card.classList.add("edif-whole");
  try {
    const { left, top, width, height } = card.getBoundingClientRect();
    const parts: string[] = [];
    const paper = new Paper(left - EDGE, top - EDGE, parts);
    paper.element(card);
    const [wide, high] = [Math.ceil(width + 2 * EDGE), Math.ceil(height + 2 * EDGE)];
    const line = getComputedStyle(card).getPropertyValue("--edif-line");
    const hatch =
      `<pattern id="edif-unknown" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">` +
      `<rect width="1" height="5" fill="${escaped(line)}"/></pattern>`;
    const svg =
      `<svg xmlns="${SVG}" viewBox="0 0 ${wide} ${high}" width="${wide}" height="${high}">` +
      `<defs>${hatch}</defs>${parts.join("")}</svg>`;
    return { svg, width: wide, height: high };
  } finally {
    card.classList.remove("edif-whole");
  }
}

class Paper {
  readonly #left: number;
  readonly #top: number;
  readonly #parts: string[];

  constructor(left: number, top: number, parts: string[]) {
    this.#left = left;
    this.#top = top;
    this.#parts = parts;
  }

  element(node: Element): void {
    const style = getComputedStyle(node);
    if (style.display === "none" || style.visibility === "hidden" || node.classList.contains("edif-live"))
      return;
    const box = node.getBoundingClientRect();
    if (node instanceof SVGSVGElement) {
      this.#parts.push(`<g transform="${this.#moved(box)}">${drawing(node)}</g>`);
      return;
    }
    this.#box(box, style);
    if (node instanceof HTMLCanvasElement) {
      const size = `width="${round(box.width)}" height="${round(box.height)}"`;
      this.#parts.push(
        `<image transform="${this.#moved(box)}" ${size} style="image-rendering:pixelated" href="${node.toDataURL()}"/>`,
      );
    }
    for (const child of node.childNodes) {
      if (child instanceof Element) this.element(child);
      else if (child instanceof Text && child.data.trim() !== "")
        this.#text(child, node as HTMLElement, style);
    }
  }

  /** Ground, hatching, frame. */
  #box(box: DOMRect, style: CSSStyleDeclaration): void {
    const place = `x="${this.#x(box.left)}" y="${this.#y(box.top)}" width="${round(box.width)}" height="${round(box.height)}"`;
    const shape = `${place} rx="${Number.parseFloat(style.borderTopLeftRadius) || 0}"`;
    if (seen(style.backgroundColor)) this.#parts.push(`<rect ${shape} fill="${style.backgroundColor}"/>`);
    if (style.backgroundImage !== "none") this.#parts.push(`<rect ${shape} fill="url(#edif-unknown)"/>`);
    const inset = /^(.*?\)|\S+) 0px 0px 0px 2px inset$/.exec(style.boxShadow);
    if (inset !== null)
      this.#parts.push(`<rect ${shape} fill="none" stroke="${inset[1]}" stroke-width="2"/>`);
    this.#borders(box, style, shape);
  }

  #borders(box: DOMRect, style: CSSStyleDeclaration, shape: string): void {
    const sides = (["Top", "Right", "Bottom", "Left"] as const).filter(
      (side) => Number.parseFloat(style[`border${side}Width`]) > 0 && seen(style[`border${side}Color`]),
    );
    if (sides.length === 4) {
      this.#parts.push(`<rect ${shape} fill="none" stroke="${style.borderTopColor}"/>`);
      return;
    }
    for (const side of sides) {
      const upright = side === "Left" || side === "Right";
      const [x, y] = [side === "Right" ? box.right : box.left, side === "Bottom" ? box.bottom : box.top];
      const to = upright ? `V${this.#y(box.bottom)}` : `H${this.#x(box.right)}`;
      const colour = style[`border${side}Color`];
      this.#parts.push(`<path d="M${this.#x(x)} ${this.#y(y)}${to}" stroke="${colour}"/>`);
    }
  }

  #text(text: Text, parent: HTMLElement, style: CSSStyleDeclaration): void {
    if (!seen(style.color)) return;
    const { up, down } = heights(style);
    const look =
      `font-family="${escaped(style.fontFamily)}" font-size="${style.fontSize}" fill="${style.color}" ` +
      `font-weight="${style.fontWeight}" xml:space="preserve" style="unicode-bidi:plaintext"`;
    if (style.transform !== "none") {
      const { a, b } = new DOMMatrix(style.transform);
      const [x, y] = this.#pivot(parent);
      const turned = `rotate(${round((Math.atan2(b, a) * 180) / Math.PI)} ${x} ${y})`;
      this.#parts.push(
        `<text x="${x}" y="${round(y - down)}" transform="${turned}" ${look}>${escaped(text.data)}</text>`,
      );
      return;
    }
    for (const { words, box } of linesOf(text)) {
      const y = this.#y(box.top + (box.height * up) / (up + down));
      const length = `textLength="${round(box.width)}" lengthAdjust="spacingAndGlyphs"`;
      this.#parts.push(`<text x="${this.#x(box.left)}" y="${y}" ${length} ${look}>${escaped(words)}</text>`);
    }
  }

  /** The lower left corner that a slanted head is turned about. */
  #pivot(node: HTMLElement): [number, number] {
    const parent = (node.offsetParent ?? node).getBoundingClientRect();
    return [this.#x(parent.left + node.offsetLeft), this.#y(parent.top + node.offsetTop + node.offsetHeight)];
  }

  #moved({ left, top }: DOMRect): string {
    return `translate(${this.#x(left)} ${this.#y(top)})`;
  }

  #x(left: number): number {
    return round(left - this.#left);
  }

  #y(top: number): number {
    return round(top - this.#top);
  }
}

/** The lines that a text is broken into, each with its place. */
function linesOf(text: Text): { words: string; box: DOMRect }[] {
  const range = document.createRange();
  range.selectNodeContents(text);
  const whole = [...range.getClientRects()];
  if (whole.length <= 1) return whole.map((box) => ({ words: text.data, box }));
  const lines: { words: string; box: DOMRect }[] = [];
  let from = 0;
  for (let at = 1; at <= text.length; at++) {
    range.setStart(text, from);
    range.setEnd(text, at);
    const broken = range.getClientRects().length > 1;
    if (!broken && at < text.length) continue;
    const end = broken ? at - 1 : at;
    range.setEnd(text, end);
    const [box] = range.getClientRects();
    if (box !== undefined) lines.push({ words: text.data.slice(from, end).trimEnd(), box });
    from = end;
  }
  return lines;
}

/** What stands inside an inline drawing, with its looks written down. */
function drawing(node: SVGSVGElement): string {
  const copy = node.cloneNode(true) as SVGSVGElement;
  const [from, to] = [node, copy].map((one) => [...one.querySelectorAll("*")]) as [Element[], Element[]];
  for (const [n, one] of from.entries()) {
    const style = getComputedStyle(one);
    for (const name of DRAWN) to[n]?.setAttribute(name, style.getPropertyValue(name));
    to[n]?.removeAttribute("class");
  }
  return to
    .filter((one) => one.parentNode === copy)
    .map((one) => new XMLSerializer().serializeToString(one))
    .join("");
}

const measured = new Map<string, { up: number; down: number }>();

/** How far letters reach above and below their line. */
function heights(style: CSSStyleDeclaration): { up: number; down: number } {
  const font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
  const known = measured.get(font);
  if (known !== undefined) return known;
  const context = element("canvas").getContext("2d");
  if (context !== null) context.font = font;
  const found = context?.measureText("M");
  const size = Number.parseFloat(style.fontSize);
  const made = {
    up: found?.fontBoundingBoxAscent ?? size * 0.9,
    down: found?.fontBoundingBoxDescent ?? size * 0.25,
  };
  measured.set(font, made);
  return made;
}

function seen(colour: string): boolean {
  return colour !== "transparent" && !/^rgba\(.*, 0\)$/.test(colour);
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (one) => `&#${one.charCodeAt(0)};`);
}
