// The module-federation container that JupyterLab loads: what its builder would generate, by hand and without webpack.
// Entry point of the bundle, run by JupyterLab's page (see docs/decisions/front-end-build.md).
import { knowPlaces, mimeExtension, type WidgetClass } from "./jupyterlab.ts";
import { type Actions, placesIn, type Tracker } from "./notebook.ts";
import { type Shared as Parts, workbench } from "./workbench.ts";

/** Webpack's share scope: package name, version, and how to get the package. */
type Shared = { get: () => Promise<() => unknown> | (() => unknown) };
type ShareScope = Record<string, Record<string, Shared> | undefined>;

let scope: ShareScope = {};

/** A package of the page's own, such as JupyterLab itself runs. */
async function shared<T>(name: string): Promise<T> {
  const held = Object.values(scope[name] ?? {})[0];
  if (held === undefined) throw new Error(`eDIF results are not drawn: this page does not share ${name}.`);
  return (await held.get())() as T;
}

/** Modules of the container, each made when JupyterLab asks for it. */
const MODULES: Record<string, () => Promise<object>> = {
  "./mimeExtension": async () =>
    mimeExtension((await shared<{ Widget: WidgetClass }>("@lumino/widgets")).Widget),
  "./extension": async () => [await notebookPlugin(), ...(await workbenchPlugins())],
};

/** Tells the renderer what the notebooks of this page can do for their outputs. */
async function notebookPlugin(): Promise<object> {
  type Notebooks = { INotebookTracker: unknown; NotebookActions: Actions };
  const { INotebookTracker, NotebookActions } = await shared<Notebooks>("@jupyterlab/notebook");
  return {
    id: "edif-widgets:notebook",
    description: "Lets eDIF results run the next thing, and end their jobs.",
    autoStart: true,
    requires: [INotebookTracker],
    activate: (_app: unknown, tracker: Tracker) => knowPlaces(placesIn(tracker, NotebookActions)),
  };
}

/** Cards, notices and tutorials, where the page has a launcher to put them into. */
async function workbenchPlugins(): Promise<object[]> {
  const packages = ["@jupyterlab/launcher", "@jupyterlab/apputils", "@jupyterlab/ui-components"];
  if (packages.some((name) => scope[name] === undefined)) return [];
  const [launcher, apputils, components] = await Promise.all(packages.map((name) => shared<Parts>(name)));
  return [workbench({ ...launcher, ...apputils, ...components } as Parts)];
}

const container = {
  init(shared: ShareScope): void {
    scope = shared;
  },
  async get(name: string): Promise<() => object> {
    const make = Object.hasOwn(MODULES, name) ? MODULES[name] : undefined;
    if (make === undefined) throw new Error(`edif-widgets has no module ${name}`);
    const made = await make();
    return () => made;
  },
};

declare global {
  interface Window {
    _JUPYTERLAB?: Record<string, object>;
  }
}

window._JUPYTERLAB ??= {};
window._JUPYTERLAB["edif-widgets"] = container;
