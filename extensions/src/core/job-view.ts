// Draws a job as one line: what it does, how far it is, Cancel; below it what it has printed, what is known so far, or in
// their place the error.  Called by draw.ts, again and again while the job runs: the line then changes in place, so that
// Cancel stays under the pointer and the keyboard, and what was chosen among the tiles stays chosen.
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

/** Draws a result that is not whole yet. */
type DrawKnown = (data: unknown, place: Place) => HTMLElement;

/** Lines on the page, by their nodes. */
const LINES = new WeakMap<Element, JobLine>();

/** The job's line; `before`, changed, where that is a line of the same job. */
export function drawJob(job: Job, place: Place, drawKnown: DrawKnown, before: Element | null): HTMLElement {
  const held = before === null ? undefined : LINES.get(before);
  const goesOn = held?.handle !== undefined && held.handle === job.handle;
  const line = goesOn ? held : new JobLine(job, place, drawKnown);
  line.show(job);
  return line.node;
}

class JobLine {
  readonly node: HTMLElement;
  readonly handle: string | undefined;
  readonly #drawKnown: DrawKnown;
  readonly #line = element("div", { class: "edif-line" });
  readonly #dot = element("span", { class: "edif-dot", attributes: { "aria-hidden": "true" } });
  readonly #state = element("strong", { attributes: { role: "status" } });
  readonly #doing = element("span", { class: "edif-doing" });
  readonly #progress = element(
    "span",
    { class: "edif-progress", attributes: { role: "progressbar", "aria-valuemin": "0" } },
    element("span"),
  );
  readonly #left = element("span", { class: "edif-left" });
  readonly #cancel: HTMLButtonElement | undefined;
  readonly #summary = element("summary");
  readonly #printed = element("pre", { attributes: { tabindex: "0" } });
  readonly #log = element(
    "details",
    { class: "edif-log", attributes: { open: "" } },
    this.#summary,
    this.#printed,
  );
  #known: HTMLElement | undefined;
  #view: (() => Record<string, unknown>) | undefined;

  constructor({ title, handle }: Job, { cancel }: Place, drawKnown: DrawKnown) {
    this.handle = handle;
    this.#drawKnown = drawKnown;
    const label = `job: ${visibleLine(title)}`;
    this.node = element("section", {
      class: "edif-card edif-job",
      attributes: { "aria-label": label, dir: "ltr", tabindex: "-1" },
    });
    this.#progress.setAttribute("aria-label", visibleLine(title));
    if (cancel !== undefined && handle !== undefined) this.#cancel = cancelButton(() => cancel(handle));
    LINES.set(this.node, this);
  }

  show(job: Job): void {
    const over = OVER.includes(job.state);
    const held = this.node.contains(document.activeElement) ? (document.activeElement as HTMLElement) : null;
    this.node.dataset.state = job.state;
    this.node.hidden = job.folded;
    this.#tell(job, over);
    this.#print(job.log);
    const known = this.#known;
    const parts: HTMLElement[] = [this.#line];
    if (job.error !== undefined) parts.push(errorOf(job.error));
    if (job.log.length > 0) parts.push(this.#log);
    if (job.result != null && job.error === undefined) parts.push(this.#drawn(job.result));
    arrange(this.node, job.folded ? [] : parts);
    if (known !== undefined && this.#known !== undefined) takeOver(known, this.#known, held);
    // What had the keyboard is gone: the notebook around must not get what is typed next.
    if (held !== null && !this.node.contains(document.activeElement)) this.node.focus();
  }

  #tell(job: Job, over: boolean): void {
    const counts = job.total > 0 ? `${job.done} of ${job.total}` : "";
    const took = job.state === "COMPLETED" ? `after ${spanOf(job.seconds)}` : "";
    const said = [visibleLine(job.title), counts, visibleLine(job.description), took];
    write(this.#state, WORDS[job.state]);
    write(this.#doing, said.filter((part) => part !== "").join(" · "));
    write(this.#left, leftOf(job));
    const parts: HTMLElement[] = [this.#dot, this.#state, this.#doing];
    if (!over && job.total > 0) parts.push(this.#progressOf(job));
    if (!over) parts.push(this.#left);
    if (!over && this.#cancel !== undefined) parts.push(this.#cancel);
    arrange(this.#line, parts);
  }

  #progressOf({ done, total }: Job): HTMLElement {
    this.#progress.setAttribute("aria-valuemax", String(total));
    this.#progress.setAttribute("aria-valuenow", String(done));
    const bar = this.#progress.firstElementChild as HTMLElement;
    bar.style.setProperty("width", `${(Math.min(1, done / total) * 100).toFixed(1)}%`);
    return this.#progress;
  }

  /** What was printed; its end stays in sight where it was. */
  #print(lines: string[]): void {
    const { scrollTop, scrollHeight, clientHeight } = this.#printed;
    const atEnd = scrollTop + clientHeight >= scrollHeight - 1;
    write(this.#summary, `${lines.length} ${lines.length === 1 ? "line" : "lines"} printed on the server`);
    write(this.#printed, lines.join("\n"));
    if (atEnd) this.#printed.scrollTop = this.#printed.scrollHeight;
  }

  /** What is known by now, with what the reader has chosen in what was known before. */
  #drawn(result: unknown): HTMLElement {
    const chosen = this.#view?.();
    this.#view = undefined;
    const watch = (view: () => Record<string, unknown>): void => {
      this.#view = view;
    };
    const isRecord = typeof result === "object" && result !== null && !Array.isArray(result);
    const data = chosen !== undefined && isRecord ? { ...result, view: chosen } : result;
    this.#known = this.#drawKnown(data, { watch });
    this.#known.classList.add("edif-partial");
    return this.#known;
  }
}

/** Puts parts into a node in their order; those that are there already are not moved, so they keep pointer and keyboard. */
function arrange(node: HTMLElement, parts: HTMLElement[]): void {
  for (const old of [...node.children]) if (!parts.includes(old as HTMLElement)) old.remove();
  for (const [n, part] of parts.entries()) {
    if (node.children[n] !== part) node.insertBefore(part, node.children[n] ?? null);
  }
}

/** Text anew only where it is another: a live region is read out at every change. */
function write(node: HTMLElement, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

/** Lets tiles drawn anew be where those before them were: scrolled, the keyboard in them, and new ones coming in. */
function takeOver(before: HTMLElement, now: HTMLElement, held: HTMLElement | null): void {
  const [from, to] = [before, now].map((node) => node.querySelector(".edif-scroll"));
  if (from && to) to.scrollTop = from.scrollTop;
  if (held !== null && before.contains(held)) counterpart(now, held)?.focus({ preventScroll: true });
  const old = before.querySelectorAll<HTMLElement>("td[data-column]");
  for (const [n, tile] of now.querySelectorAll<HTMLElement>("td[data-column]").entries()) {
    tile.classList.toggle("edif-new", old[n]?.dataset.step === "" && tile.dataset.step !== "");
  }
}

/** The element of a drawing that is what another one was in the drawing before it. */
function counterpart(
  now: HTMLElement,
  { tagName, className, dataset }: HTMLElement,
): HTMLElement | undefined {
  const same = ({ dataset: other }: HTMLElement): boolean =>
    ["row", "column", "name", "token"].every((one) => other[one] === dataset[one]);
  const alike = [...now.querySelectorAll<HTMLElement>(tagName)].filter(same);
  return alike.find((one) => one.className === className) ?? alike[0];
}

function cancelButton(cancel: () => void): HTMLButtonElement {
  const button = element("button", { class: "edif-button", text: "Cancel", attributes: { type: "button" } });
  button.addEventListener("click", () => {
    button.disabled = true;
    button.textContent = "Cancelling …";
    cancel();
  });
  return button;
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

function spanOf(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}
