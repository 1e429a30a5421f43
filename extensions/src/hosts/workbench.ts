// Hosts the workbench in JupyterLab: launcher cards, what the server has to tell, tutorials put back as they came.
// Called by JupyterLab in the browser through federation.ts; asks edif_hub/user_server/extension.py.

/** The parts of JupyterLab's application, launcher, palette and notifications that are used here. */
interface DocumentContext {
  readonly path: string;
  readonly model: { readonly dirty: boolean };
  save(): Promise<void>;
  revert(): Promise<void>;
}
export interface Application {
  readonly restored: Promise<void>;
  readonly shell: { readonly currentWidget: { readonly context?: DocumentContext } | null };
  readonly commands: {
    addCommand(id: string, options: object): unknown;
    execute(id: string, options?: object): Promise<unknown>;
  };
}
interface Launcher {
  add(card: { command: string; category: string; rank: number }): unknown;
}
interface Palette {
  addItem(item: { command: string; category: string }): unknown;
}
interface Notification {
  warning(message: string, options: object): string;
  info(message: string, options: object): string;
  dismiss(id?: string): void;
}
/** What JupyterLab's page shares with its extensions. */
export interface Shared {
  readonly ILauncher: object;
  readonly ICommandPalette: object;
  readonly Notification: Notification;
  readonly LabIcon: new (options: { name: string; svgstr: string }) => object;
}
/** The answer of `GET edif/workbench`. */
interface Told {
  readonly notices: string[];
  readonly stops_in_s: number | null;
  readonly warned: boolean;
  readonly tutorials: string;
  readonly page: string;
  readonly courses: string;
}

const CATEGORY = "eDIF";
const ASK_MS = 60_000;
const STAYS = { autoClose: false };
/** Without a time JupyterLab only counts a notice in its corner, where nobody looks. */
const SHOWN = { autoClose: 10_000 };

const ICONS = {
  tutorials: "M4 5h7v14H4zM13 5h7v14h-7z",
  jobs: "M4 6h16M4 12h11M4 18h6",
  courses: "M3 9l9-4 9 4-9 4zM7 12v5c3 2 7 2 10 0v-5",
};

function svg(path: string): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="24" fill="none"><path class="jp-icon-brand0" d="${path}" stroke="#2350a9" stroke-width="1.6"/></svg>`;
}

/** One question to the user's own server. */
export async function ask(method: string, path: string, body?: object): Promise<unknown> {
  const config = JSON.parse(document.getElementById("jupyter-config-data")?.textContent ?? "{}");
  const proof = /(?:^|; )_xsrf=([^;]*)/.exec(document.cookie)?.[1] ?? "";
  const answer = await fetch(`${config.baseUrl ?? "/"}edif/${path}`, {
    method,
    headers: { "Content-Type": "application/json", "X-XSRFToken": proof },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const said = answer.status === 204 ? {} : await answer.json();
  if (!answer.ok) throw new Error(said.message ?? answer.statusText);
  return said;
}

/** The words of the warning before an idle server is stopped. */
export function warning(seconds: number): string {
  const minutes = Math.max(1, Math.round(seconds / 60));
  return `Nothing happens on this server: it is stopped in ${minutes} minute${minutes === 1 ? "" : "s"}. Files are kept, variables are not; results of jobs are found with edif.jobs().`;
}

/** The notebook that is shown, if it is one of the tutorials. */
function tutorial(app: Application, folder: string): DocumentContext | null {
  const context = app.shell.currentWidget?.context;
  const [place, name, ...rest] = (context?.path ?? "").split("/");
  return context && place === folder && name?.endsWith(".ipynb") && rest.length === 0 ? context : null;
}

async function putBack(app: Application, shared: Shared, folder: string): Promise<void> {
  const context = tutorial(app, folder);
  if (context === null) return;
  if (context.model.dirty) await context.save(); // so that it is what is kept
  try {
    const { kept } = (await ask("POST", "reset", { name: context.path.split("/")[1] })) as {
      kept: string | null;
    };
    await context.revert();
    shared.Notification.info(
      kept ? `The original is back. Yours is kept as ${kept}.` : "It is as it came.",
      SHOWN,
    );
  } catch (problem) {
    shared.Notification.warning(`It was not put back: ${(problem as Error).message}`, STAYS);
  }
}

function addCommands(app: Application, shared: Shared, told: Told): string[] {
  const icon = (name: keyof typeof ICONS): object =>
    new shared.LabIcon({ name: `edif:${name}`, svgstr: svg(ICONS[name]) });
  const cards: [string, object][] = [
    [
      "edif:tutorials",
      {
        label: "Tutorials",
        caption: "The notebooks that come with the workbench",
        icon: icon("tutorials"),
        execute: () => app.commands.execute("filebrowser:open-path", { path: `/${told.tutorials}` }),
      },
    ],
    [
      "edif:jobs",
      {
        label: "Jobs and models",
        caption: "What runs, what waits, what you may use",
        icon: icon("jobs"),
        execute: () => window.open(told.page, "_blank", "noopener"),
      },
    ],
  ];
  if (told.courses)
    cards.push([
      "edif:courses",
      {
        label: "Courses",
        caption: "Material, assignments and rooms of your courses",
        icon: icon("courses"),
        execute: () => window.open(told.courses, "_blank", "noopener"),
      },
    ]);
  for (const [id, options] of cards) app.commands.addCommand(id, options);
  app.commands.addCommand("edif:reset", {
    label: "Reset This Tutorial to the Original",
    caption: "What you made of it is kept beside it",
    isEnabled: () => tutorial(app, told.tutorials) !== null,
    execute: () => putBack(app, shared, told.tutorials),
  });
  return cards.map(([id]) => id);
}

/** Tells notices once, and the warning as long as it holds. */
export class Teller {
  private readonly said = new Set<string>();
  private warned: string | null = null;

  constructor(private readonly notification: Notification) {}

  tell(told: Told): void {
    for (const notice of told.notices) {
      if (!this.said.has(notice)) this.notification.warning(notice, STAYS);
      this.said.add(notice);
    }
    if (told.warned && this.warned === null) {
      const here = { label: "I am here", callback: () => void ask("POST", "workbench") };
      this.warned = this.notification.warning(warning(told.stops_in_s ?? 0), { ...STAYS, actions: [here] });
    } else if (!told.warned && this.warned !== null) {
      this.notification.dismiss(this.warned);
      this.warned = null;
    }
  }
}

/** A JupyterLab plugin, made with the classes and tokens that the page itself uses. */
export function workbench(shared: Shared): object {
  return {
    id: "edif-widgets:workbench",
    description: "Cards, notices and tutorials of the eDIF workbench.",
    autoStart: true,
    optional: [shared.ILauncher, shared.ICommandPalette],
    async activate(app: Application, launcher: Launcher | null, palette: Palette | null): Promise<void> {
      let told: Told;
      try {
        told = (await ask("GET", "workbench")) as Told;
      } catch {
        return; // a JupyterLab outside the workbench, where results are drawn and nothing else is ours
      }
      addCommands(app, shared, told).forEach((command, place) => {
        launcher?.add({ command, category: CATEGORY, rank: place });
        palette?.addItem({ command, category: CATEGORY });
      });
      palette?.addItem({ command: "edif:reset", category: CATEGORY });
      const teller = new Teller(shared.Notification);
      void app.restored.then(() => teller.tell(told));
      setInterval(async () => {
        try {
          teller.tell((await ask("GET", "workbench")) as Told);
        } catch {
          // the server is away; JupyterLab itself says so
        }
      }, ASK_MS);
    },
  };
}
