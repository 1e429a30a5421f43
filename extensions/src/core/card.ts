// The frame that every view shares: title, one line of provenance, controls at the right, body, foot.
// Called by the views of the core.
import { element } from "./dom.ts";
import type { Provenance } from "./result.ts";
import { visibleLine } from "./text.ts";

export interface Card {
  node: HTMLElement;
  body: HTMLElement;
  controls: HTMLElement;
  /** The line of provenance. */
  origin: HTMLElement;
}

/**
 * An empty card; the view fills `body` and `controls`.  `keys` are pairs of keys and what they do.  That a result is not
 * complete stands where its foot line begins, and at the top, where nobody overlooks it.
 */
export function card(title: string, provenance: Provenance, keys: [string, string][], foot: string): Card {
  const heading = element("div", { class: "edif-title", text: visibleLine(title) });
  const origin = element("div", { class: "edif-provenance", text: provenanceLine(provenance) });
  const stopped = /^NOT COMPLETE[^·]*/
    .exec(foot)
    ?.map((text) => element("div", { class: "edif-note edif-warning", text: visibleLine(text.trim()) }));
  const controls = element("div", { class: "edif-controls" });
  const body = element("div", { class: "edif-body" });
  const node = element(
    "section",
    { class: "edif-card", attributes: { "aria-label": visibleLine(title), dir: "ltr" } },
    element(
      "header",
      { class: "edif-head" },
      element("div", { class: "edif-names" }, heading, origin, ...(stopped ?? [])),
      controls,
    ),
    body,
    footLine(keys, foot),
  );
  return { node, body, controls, origin };
}

/** Model, dtype, BOS policy and prompt in one line; what is not known is left out. */
export function provenanceLine({ model, dtype, bos, prompt }: Provenance): string {
  const quoted = prompt === undefined ? undefined : `“${prompt}”`;
  return [model, dtype, bos, quoted]
    .filter((part) => part !== undefined && part !== "")
    .map((part) => visibleLine(part as string))
    .join(" · ");
}

/** The line of provenance of one of several prompts; whether it begins with BOS is told where it is known. */
export function promptLine(
  known: Provenance,
  { prompt, bos }: { prompt: string; bos: boolean | undefined },
): string {
  const policy = bos === undefined ? {} : { bos: bos ? "BOS" : "no BOS" };
  return provenanceLine({ ...known, prompt, ...policy });
}

function footLine(keys: [string, string][], foot: string): HTMLElement {
  const node = element("footer", { class: "edif-foot" });
  for (const [key, deed] of keys) {
    node.append(
      element(
        "span",
        { class: "edif-key" },
        element("kbd", { text: key }),
        document.createTextNode(` ${deed}`),
      ),
    );
  }
  if (foot !== "") node.append(element("span", { text: visibleLine(foot) }));
  return node;
}

/** A segmented switch; `choose` hears the name of the segment that was chosen. */
export function segments(label: string, names: string[], choose: (name: string) => void): HTMLElement {
  const group = element("div", {
    class: "edif-segments",
    attributes: { role: "group", "aria-label": label },
  });
  for (const name of names) {
    const button = element("button", { text: name, attributes: { type: "button", "data-name": name } });
    button.addEventListener("click", () => choose(name));
    group.append(button);
  }
  return group;
}

/** Marks the chosen segment of a switch made by `segments`. */
export function press(group: HTMLElement, chosen: string): void {
  for (const button of group.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.name === chosen));
  }
}
