// Hosts the core on a page of its own: a saved page of `.to_html()`, a notebook that nbconvert has made into HTML.
// Entry point of a second bundle, inlined once a page; it reads the blocks that edif.result_pages writes.
import { draw } from "../core/draw.ts";
import { MIME_TYPE } from "../core/result.ts";

function drawAll(): void {
  for (const block of document.querySelectorAll<HTMLElement>("[data-edif]:not([data-edif-drawn])")) {
    const held = block.querySelector(`script[type="${MIME_TYPE}"]`);
    if (held === null) continue;
    block.dataset.edifDrawn = "";
    draw(block, parsed(held.textContent ?? ""));
  }
}

/** The data of a block; what is no JSON is handed on as text, and the core says what it makes of it. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

// A page that gets results later asks for them to be drawn by this event.
document.addEventListener("edif-draw", drawAll);
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", drawAll);
else drawAll();
