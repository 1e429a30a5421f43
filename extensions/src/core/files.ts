// Gives a view to its reader as a file: PNG and SVG of what is seen, JSON of what it was drawn from with all that the
// reader has chosen.  Called by parts.ts.
import { element } from "./dom.ts";
import { snapshot } from "./snapshot.ts";

/** What a file is made of; `data` is the result as it arrived, with the reader's view in it. */
export interface FileOf {
  title: string;
  data: () => unknown;
}

const FORMS = ["PNG", "SVG", "JSON"] as const;
/** Pixels to a unit of the page. */
const SHARP = 2;

/** The Export button with its menu; `say` tells how it went. */
export function exportMenu(
  card: HTMLElement,
  { title, data }: FileOf,
  say: (words: string) => void,
): { node: HTMLElement; open: () => void } {
  const name = title.toLowerCase().replace(/[^a-z0-9]+/g, "-") || "result";
  const give = async (form: (typeof FORMS)[number]): Promise<void> => {
    close();
    try {
      const made = await make(form, card, data);
      save(made, `${name}.${form.toLowerCase()}`);
      say(`${form} saved`);
    } catch {
      say(`No ${form} could be made here; JSON always can.`);
    }
  };
  const items = FORMS.map((form) => {
    const item = element("button", { text: form, attributes: { type: "button", role: "menuitem" } });
    item.addEventListener("click", () => give(form));
    return item;
  });
  const menu = element("div", { class: "edif-menu", attributes: { role: "menu" } }, ...items);
  menu.hidden = true;
  const button = element("button", {
    class: "edif-button",
    text: "Export ▾",
    attributes: { type: "button", "aria-haspopup": "menu", "aria-expanded": "false" },
  });
  const show = (shown: boolean): void => {
    menu.hidden = !shown;
    button.setAttribute("aria-expanded", String(shown));
  };
  const close = (): void => {
    show(false);
    button.focus();
  };
  const open = (): void => {
    show(true);
    items[0]?.focus();
  };
  button.addEventListener("click", () => (menu.hidden ? open() : close()));
  const node = element("div", { class: "edif-export" }, button, menu);
  node.addEventListener("keydown", (event) => {
    const at = items.indexOf(document.activeElement as HTMLButtonElement);
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") close();
    else if (by !== undefined && at >= 0) items[(at + by + items.length) % items.length]?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  node.addEventListener("focusout", (event) => {
    if (!node.contains(event.relatedTarget as Node | null)) show(false);
  });
  return { node, open };
}

async function make(form: (typeof FORMS)[number], card: HTMLElement, data: () => unknown): Promise<Blob> {
  if (form === "JSON") return new Blob([JSON.stringify(data())], { type: "application/json" });
  const { svg, width, height } = snapshot(card);
  const drawn = new Blob([svg], { type: "image/svg+xml" });
  return form === "SVG" ? drawn : await raster(svg, width, height);
}

function raster(svg: string, width: number, height: number): Promise<Blob> {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onerror = reject;
    picture.onload = () => {
      const canvas = element("canvas");
      canvas.width = width * SHARP;
      canvas.height = height * SHARP;
      canvas.getContext("2d")?.drawImage(picture, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((made) => (made === null ? reject() : resolve(made)), "image/png");
    };
    picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
  });
}

function save(made: Blob, name: string): void {
  const address = URL.createObjectURL(made);
  element("a", { attributes: { href: address, download: name } }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
