// Hosts the core in JupyterLab as a MIME renderer: no kernel and no widget manager needed.
// Called by JupyterLab in the browser through federation.ts.
import { draw } from "../core/draw.ts";
import { MIME_TYPE } from "../core/result.ts";

/** The parts of JupyterLab's `IRenderMime.IMimeModel` and Lumino's `Widget` that are used here. */
interface MimeModel {
  readonly data: Record<string, unknown>;
}
interface LuminoWidget {
  readonly node: HTMLElement;
}
export type WidgetClass = new () => LuminoWidget;

/** A JupyterLab MIME extension; its outputs must be widgets of the `Widget` class that JupyterLab itself runs. */
export function mimeExtension(Widget: WidgetClass): object {
  class ResultOutput extends Widget {
    renderModel(model: MimeModel): Promise<void> {
      draw(this.node, model.data[MIME_TYPE]);
      return Promise.resolve();
    }
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
