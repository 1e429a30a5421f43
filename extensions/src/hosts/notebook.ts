// What a notebook with a running kernel can do for its outputs: run a line of code below their cell, and end a job while
// its cell runs.  A JupyterLab plugin, made by federation.ts from the packages that JupyterLab shares.
import type { Place } from "../core/place.ts";

/** Known to kernels/edif/job_view.py. */
const COMM = "edif.job";
/** A kernel answers at once, if it can while a cell runs. */
const HEARS_WITHIN_MS = 700;

/** The parts of JupyterLab that are used here. */
interface Comm {
  open(data: object): void;
  onMsg: (message: unknown) => void;
}
interface Kernel {
  readonly status: string;
  createComm(target: string): Comm;
  interrupt(): Promise<void>;
}
interface SharedModel {
  source: string;
}
interface Cell {
  readonly node: HTMLElement;
  readonly model: {
    readonly sharedModel: SharedModel;
    getMetadata(name: string): unknown;
    setMetadata(name: string, value: unknown): void;
  };
}
interface Content {
  activeCellIndex: number;
  readonly activeCell: Cell | null;
  readonly widgets: readonly Cell[];
}
interface Panel {
  readonly node: HTMLElement;
  readonly content: Content;
  readonly sessionContext: { readonly session: { readonly kernel: Kernel | null } | null };
}
export interface Tracker {
  find(is: (panel: Panel) => boolean): Panel | undefined;
}
export interface Actions {
  insertBelow(content: Content): void;
  run(content: Content, session: unknown): Promise<boolean>;
}

/** Whether a cell's code was written here, and is as it was written: then it may be written anew. */
const WRITTEN = "edif_written";

/** Finds what the notebook around a node can do for it. */
export function placesIn(tracker: Tracker, actions: Actions): (node: HTMLElement) => Place {
  const panelOf = (node: HTMLElement): Panel | undefined =>
    tracker.find((panel) => panel.node.contains(node));
  const kernelOf = (node: HTMLElement): Kernel | null =>
    panelOf(node)?.sessionContext.session?.kernel ?? null;
  return (node) => ({
    get run() {
      return kernelOf(node) === null
        ? undefined
        : (code: string) => write(code, node, panelOf(node), actions);
    },
    get cancel() {
      if (kernelOf(node) === null) return undefined;
      return (handle: string) => end(kernelOf(node), handle);
    },
  });
}

/** Asks the kernel to end a job; one that is too busy to hear is interrupted, as by JupyterLab's own stop button. */
function end(kernel: Kernel | null, handle: string): void {
  if (kernel === null) return;
  const comm = kernel.createComm(COMM);
  const unheard = setTimeout(() => void kernel.interrupt(), HEARS_WITHIN_MS);
  comm.onMsg = () => clearTimeout(unheard);
  comm.open({ cancel: handle });
}

/** Puts code into a cell below the node's and runs it; into the same one as before, unless that was changed. */
function write(code: string, node: HTMLElement, panel: Panel | undefined, actions: Actions): void {
  const cells = panel?.content.widgets ?? [];
  const at = cells.findIndex((cell) => cell.node.contains(node));
  if (panel === undefined || at < 0) return;
  const { content } = panel;
  const below = cells[at + 1];
  const written = below?.model.getMetadata(WRITTEN);
  if (below !== undefined && written === below.model.sharedModel.source) content.activeCellIndex = at + 1;
  else {
    content.activeCellIndex = at;
    actions.insertBelow(content);
  }
  const cell = content.activeCell;
  if (cell === null) return;
  cell.model.sharedModel.source = code;
  cell.model.setMetadata(WRITTEN, code);
  actions.run(content, panel.sessionContext);
}
