// Offers a file with the whole result where a drawing leaves something out to fit the notebook.  Called by draw.ts.
import { element } from "./dom.ts";
import type { Place } from "./place.ts";
import type { Result } from "./result.ts";

/** Adds the offer to the foot of a drawn result, where a kernel is at hand that has made it. */
export function offerWhole(node: HTMLElement, { kind, handle, raw }: Result, { run }: Place): void {
  const foot = node.querySelector(".edif-foot");
  if (raw.reduced !== true || handle === undefined || run === undefined || foot === null) return;
  const file = `${kind}-${handle}.edif`;
  const code = `from IPython.display import FileLink\nFileLink(edif.shown("${handle}").save("${file}"))`;
  const button = element("button", {
    class: "edif-button",
    text: "Keep all of it in a file",
    attributes: { type: "button", title: code },
  });
  button.addEventListener("click", () => run(code));
  foot.append(button);
}
