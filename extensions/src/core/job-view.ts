// Draws a job as one line: what it does, how far it is, Cancel; below it what it has printed, what is known so far, or in
// their place the error.  Called by draw.ts, again and again while the job runs.
import { element } from "./dom.ts";
import type { JobState } from "./job-result.ts";
import type { Place } from "./place.ts";
import type { Job } from "./result.ts";
import { visibleLine } from "./text.ts";

const WORDS: Record<JobState, string> = {
  RECEIVED: "Sent",
  QUEUED: "Waiting",
  PROVISIONING: "Waiting for room",
  DEPLOYING: "Model is loading",
  DISPATCHED: "Starting",
  RUNNING: "Running",
  COMPLETED: "Done",
  ERROR: "Failed",
  CANCELLED: "Cancelled",
};
const OVER: JobState[] = ["COMPLETED", "ERROR", "CANCELLED"];

/** `drawKnown` draws a result that is not whole yet. */
export function drawJob(job: Job, place: Place, drawKnown: (data: unknown) => HTMLElement): HTMLElement {
  const over = OVER.includes(job.state);
  const node = element("section", {
    class: "edif-card edif-job",
    attributes: { "aria-label": `job: ${visibleLine(job.title)}`, "data-state": job.state, dir: "ltr" },
  });
  if (job.folded) {
    node.hidden = true;
    return node;
  }
  node.append(headOf(job, over, place));
  if (job.error !== undefined) node.append(errorOf(job.error));
  if (job.log.length > 0) node.append(logOf(job.log));
  if (job.result != null && job.error === undefined) {
    const known = drawKnown(job.result);
    known.classList.add("edif-partial");
    node.append(known);
  }
  return node;
}

function headOf(job: Job, over: boolean, place: Place): HTMLElement {
  const counts = job.total > 0 ? `${job.done} of ${job.total}` : "";
  const took = job.state === "COMPLETED" ? `after ${spanOf(job.seconds)}` : "";
  const said = [visibleLine(job.title), counts, visibleLine(job.description), took].filter(
    (part) => part !== "",
  );
  const head = element(
    "div",
    { class: "edif-line" },
    element("span", { class: "edif-dot", attributes: { "aria-hidden": "true" } }),
    element("strong", { text: WORDS[job.state], attributes: { role: "status" } }),
    element("span", { class: "edif-doing", text: said.join(" · ") }),
  );
  if (over) return head;
  if (job.total > 0) head.append(progressOf(job));
  head.append(element("span", { class: "edif-left", text: leftOf(job) }));
  const { handle } = job;
  if (place.cancel !== undefined && handle !== undefined) {
    const button = element("button", {
      class: "edif-button",
      text: "Cancel",
      attributes: { type: "button" },
    });
    button.addEventListener("click", () => {
      button.disabled = true;
      button.textContent = "Cancelling …";
      place.cancel?.(handle);
    });
    head.append(button);
  }
  return head;
}

function progressOf({ done, total, title }: Job): HTMLElement {
  const part = Math.min(1, done / total);
  const attributes = {
    role: "progressbar",
    "aria-label": visibleLine(title),
    "aria-valuemin": "0",
    "aria-valuemax": String(total),
    "aria-valuenow": String(done),
  };
  return element(
    "span",
    { class: "edif-progress", attributes },
    element("span", { style: { width: `${(part * 100).toFixed(1)}%` } }),
  );
}

function leftOf({ left, state, seconds }: Job): string {
  if (left !== undefined) return `about ${spanOf(left)} left`;
  return state === "RUNNING" ? spanOf(seconds) : "";
}

function errorOf({ line, cause }: { line: string; cause: string }): HTMLElement {
  const node = element("div", { class: "edif-error", attributes: { role: "alert" } });
  if (line !== "") node.append(element("code", { text: line }));
  node.append(element("p", { text: visibleLine(cause) }));
  return node;
}

function logOf(lines: string[]): HTMLElement {
  const count = `${lines.length} ${lines.length === 1 ? "line" : "lines"} printed on the server`;
  return element(
    "details",
    { class: "edif-log", attributes: { open: "" } },
    element("summary", { text: count }),
    element("pre", { text: lines.join("\n"), attributes: { tabindex: "0" } }),
  );
}

function spanOf(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}
