// Draws what cannot be drawn: a sentence, and the raw result folded away.  Called by draw.ts.
import { element } from "./dom.ts";
import { visibleLine } from "./text.ts";

const MAX_RAW_CHARACTERS = 50_000;

export function drawProblem(sentence: string, data: unknown): HTMLElement {
  return element(
    "section",
    {
      class: "edif-card edif-problem",
      attributes: { "aria-label": "a result that cannot be drawn", dir: "ltr" },
    },
    element("p", { text: visibleLine(sentence) }),
    element(
      "details",
      {},
      element("summary", { text: "Raw result" }),
      element("pre", { text: rawText(data) }),
    ),
  );
}

function rawText(data: unknown): string {
  const text = json(data);
  if (text.length <= MAX_RAW_CHARACTERS) return text;
  return `${text.slice(0, MAX_RAW_CHARACTERS)}\n… ${text.length - MAX_RAW_CHARACTERS} more characters`;
}

function json(data: unknown): string {
  try {
    return JSON.stringify(data, null, 2) ?? String(data);
  } catch {
    // Only data that never was JSON gets here (a cycle, a BigInt): a host may hand us anything.
    return "(not JSON)";
  }
}
