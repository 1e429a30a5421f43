// Draws any result into a node of the page.  Called by the hosts: JupyterLab, and pages of their own.
import { drawAttention } from "./attention-view.ts";
import { drawComparison } from "./comparison-view.ts";
import { drawJob } from "./job-view.ts";
import { drawLens } from "./lens.ts";
import { drawNextTokens } from "./next-tokens.ts";
import { drawPatching } from "./patching-view.ts";
import type { Place } from "./place.ts";
import { drawProbe } from "./probe-view.ts";
import { drawProblem } from "./problem.ts";
import { type Result, readResult, Unreadable } from "./result.ts";
import { drawSteering } from "./steering-view.ts";
import { STYLE } from "./style.ts";
import { drawBeside, drawTogether } from "./together-view.ts";
import { drawTrace } from "./trace-view.ts";
import { offerWhole } from "./whole-file.ts";

const STYLE_ID = "edif-style";

/**
 * Replaces what `host` shows by the drawing of `data`; a job that goes on changes in place.  Never throws: what cannot be
 * drawn says so in place.
 */
export function draw(host: HTMLElement, data: unknown, place: Place = {}): void {
  installStyle();
  const before = host.firstElementChild;
  const node = drawingOf(data, place, before);
  if (node !== before) host.replaceChildren(node);
}

function drawingOf(data: unknown, place: Place, before: Element | null = null): HTMLElement {
  try {
    const result = readResult(data);
    const node = view(result, place, before);
    if (result.kind !== "job") offerWhole(node, result, place);
    return node;
  } catch (error) {
    // The one blind catch: a result that breaks a view must not break the notebook around it.
    const sentence =
      error instanceof Unreadable ? error.message : "This result cannot be drawn: the viewer failed on it.";
    return drawProblem(sentence, data);
  }
}

/** One view a kind; a new kind of result gets its line here. */
function view(result: Result, place: Place, before: Element | null): HTMLElement {
  switch (result.kind) {
    case "job":
      return drawJob(result, place, drawingOf, before);
    case "next_tokens":
      return drawNextTokens(result);
    case "logit_lens":
      return drawLens(result, place);
    case "activation_patching":
      return drawPatching(result, place);
    case "causal_trace":
      return drawTrace(result, place);
    case "attention":
      return drawAttention(result, place);
    case "steering":
      return drawSteering(result, place);
    case "probe":
      return drawProbe(result, place);
    case "comparison":
      return drawComparison(result, place, () => drawBeside(result.sides, {}, drawingOf));
    case "together":
      return drawTogether(result, place, drawingOf);
  }
}

function installStyle(): void {
  if (document.getElementById(STYLE_ID) !== null) return;
  const style = document.createElement("style");
  style.id = STYLE_ID;
  style.textContent = STYLE;
  document.head.append(style);
}
