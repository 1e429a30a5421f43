// The module-federation container that JupyterLab loads: what its builder would generate, by hand and without webpack.
// Entry point of the bundle, run by JupyterLab's page (see docs/decisions/front-end-build.md).
import { mimeExtension, type WidgetClass } from "./jupyterlab.ts";

/** Webpack's share scope: package name, version, and how to get the package. */
type Shared = { get: () => Promise<() => unknown> | (() => unknown) };
type ShareScope = Record<string, Record<string, Shared> | undefined>;

let scope: ShareScope = {};

async function lumino(): Promise<{ Widget: WidgetClass }> {
  const shared = Object.values(scope["@lumino/widgets"] ?? {})[0];
  if (shared === undefined)
    throw new Error("eDIF results are not drawn: this page does not share @lumino/widgets.");
  return (await shared.get())() as { Widget: WidgetClass };
}

const container = {
  init(shared: ShareScope): void {
    scope = shared;
  },
  async get(name: string): Promise<() => object> {
    if (name !== "./mimeExtension") throw new Error(`edif-widgets has no module ${name}`);
    const extension = mimeExtension((await lumino()).Widget);
    return () => extension;
  },
};

declare global {
  interface Window {
    _JUPYTERLAB?: Record<string, object>;
  }
}

window._JUPYTERLAB ??= {};
window._JUPYTERLAB["edif-widgets"] = container;
