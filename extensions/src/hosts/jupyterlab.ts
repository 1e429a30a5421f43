// Hosts the core in JupyterLab as a MIME renderer: no kernel and no widget manager needed.  With the notebook plugin
// (notebook.ts) beside it, an output can also do what only a notebook with a kernel can.
// Called by JupyterLab in the browser through federation.ts.
import { draw } from "../core/draw.ts";
import type { Place } from "../core/place.ts";
import { MIME_TYPE } from "../core/result.ts";

/** The parts of JupyterLab's `IRenderMime.IMimeModel` and Lumino's `Widget` that are used here. */
interface MimeModel {
  readonly data: Record<string, unknown>;
}
interface LuminoWidget {
  readonly node: HTMLElement;
  onAfterAttach?(message: unknown): void;
}
export type WidgetClass = new () => LuminoWidget;

/** What a node's notebook can do for it; set by the notebook plugin where JupyterLab has notebooks. */
let placeOf: (node: HTMLElement) => Place = () => ({});

export function knowPlaces(find: (node: HTMLElement) => Place): void {
  placeOf = find;
}

/** A JupyterLab MIME extension; its outputs must be widgets of the `Widget` class that JupyterLab itself runs. */
export function mimeExtension(Widget: WidgetClass): object {
  class ResultOutput extends Widget {
    /** What is still to be drawn: what the kernel knows by name may do more, once it is in its notebook. */
    #waiting: unknown;

    renderModel(model: MimeModel): Promise<void> {
      const data = model.data[MIME_TYPE];
      this.#waiting = isNamed(data) && !this.node.isConnected ? data : undefined;
      if (this.#waiting === undefined) this.#draw(data);
      return Promise.resolve();
    }

    override onAfterAttach(message: unknown): void {
      super.onAfterAttach?.(message);
      if (this.#waiting !== undefined) this.#draw(this.#waiting);
      this.#waiting = undefined;
    }

    #draw(data: unknown): void {
      draw(this.node, data, placeOf(this.node));
      // A job that has folded into its result leaves no gap either.
      const output = this.node.closest<HTMLElement>(".jp-OutputArea-child");
      const folded = this.node.querySelector<HTMLElement>(":scope > .edif-job")?.hidden === true;
      output?.classList.toggle("edif-folded", folded);
    }
  }
  function isNamed(data: unknown): boolean {
    return typeof data === "object" && data !== null && "handle" in data;
  }
  return {
    id: "edif-widgets:result",
    description: "Draws eDIF results.",
    dataType: "json",
    rank: 0,
    rendererFactory: {
      // Safe: only text nodes come out of a result, so it is drawn in notebooks that are not trusted yet, too.
      safe: true,
      mimeTypes: [MIME_TYPE],
      createRenderer: (): LuminoWidget => new ResultOutput(),
    },
  };
}
