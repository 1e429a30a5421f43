import { afterEach, expect, it, vi } from "vitest";
import { type Application, Teller, warning, workbench } from "../src/hosts/workbench.ts";

const TOLD = {
  notices: ["The disk of your files is full."],
  stops_in_s: 3600,
  warned: false,
  tutorials: "tutorials",
  page: "/services/edif/",
  courses: "",
};

class LabIcon {}

function notifications() {
  return { warning: vi.fn(() => "w1"), info: vi.fn(() => "i1"), dismiss: vi.fn() };
}

function answers(...bodies: object[]) {
  const fetched = vi.fn(async (..._asked: unknown[]) => {
    const body = bodies.length > 1 ? bodies.shift() : bodies[0];
    return new Response(JSON.stringify(body), { status: 200 });
  });
  vi.stubGlobal("fetch", fetched);
  return fetched;
}

async function activated(told: object) {
  const commands = new Map<string, { execute: () => Promise<unknown>; isEnabled?: () => boolean }>();
  const context = {
    path: "tutorials/00_hello.ipynb",
    model: { dirty: true },
    save: vi.fn(),
    revert: vi.fn(),
  };
  const app = {
    restored: Promise.resolve(),
    shell: { currentWidget: { context } },
    commands: { addCommand: (id: string, options: never) => commands.set(id, options), execute: vi.fn() },
  } as unknown as Application;
  const cards: string[] = [];
  const launcher = { add: (card: { command: string }) => cards.push(card.command) };
  const notification = notifications();
  const fetched = answers(told, { kept: "00_hello.mine-1.ipynb" });
  const shared = { ILauncher: {}, ICommandPalette: {}, Notification: notification, LabIcon };
  vi.useFakeTimers();
  await (workbench(shared) as { activate: (...parts: unknown[]) => Promise<void> }).activate(
    app,
    launcher,
    null,
  );
  await Promise.resolve();
  return { app, cards, commands, context, fetched, notification };
}

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it("puts cards into the launcher, that of courses only where there are some", async () => {
  expect((await activated(TOLD)).cards).toEqual(["edif:tutorials", "edif:jobs"]);
  expect((await activated({ ...TOLD, courses: "/services/courses/" })).cards).toContain("edif:courses");
});

it("tells what the start of the server had to say", async () => {
  const { notification } = await activated(TOLD);
  expect(notification.warning).toHaveBeenCalledWith("The disk of your files is full.", { autoClose: false });
});

it("saves what is shown, puts the tutorial back and says where the user's is", async () => {
  const { app, commands, context, fetched, notification } = await activated(TOLD);
  expect(commands.get("edif:reset")?.isEnabled?.()).toBe(true);
  await commands.get("edif:reset")?.execute();
  expect(context.save).toHaveBeenCalledBefore(context.revert);
  expect(fetched.mock.lastCall?.[1]).toMatchObject({ method: "POST", body: '{"name":"00_hello.ipynb"}' });
  expect(notification.info.mock.lastCall).toEqual([
    "The original is back. Yours is kept as 00_hello.mine-1.ipynb.",
    { autoClose: 10_000 },
  ]);
  for (const path of ["mine.ipynb", "tutorials/originals/00_hello.ipynb", "tutorials/notes.txt"]) {
    context.path = path;
    expect(commands.get("edif:reset")?.isEnabled?.()).toBe(false);
  }
  expect(app.shell.currentWidget?.context).toBe(context);
});

it("does nothing in a JupyterLab that is not the workbench's", async () => {
  vi.stubGlobal("fetch", async () => new Response("{}", { status: 404 }));
  const addCommand = vi.fn();
  const app = { commands: { addCommand } };
  const shared = { ILauncher: {}, ICommandPalette: {}, Notification: notifications(), LabIcon };
  await (workbench(shared) as { activate: (...parts: unknown[]) => Promise<void> }).activate(app, null, null);
  expect(addCommand).not.toHaveBeenCalled();
});

it("warns once as long as the warning holds, and takes it back", () => {
  const notification = notifications();
  const teller = new Teller(notification);
  const warned = { ...TOLD, notices: [], warned: true, stops_in_s: 540 };
  teller.tell(warned);
  teller.tell(warned);
  expect(notification.warning).toHaveBeenCalledTimes(1);
  expect(notification.warning.mock.lastCall).toMatchObject([
    warning(540),
    { actions: [{ label: "I am here" }] },
  ]);
  expect(warning(540)).toContain("in 9 minutes");
  teller.tell({ ...warned, warned: false });
  expect(notification.dismiss).toHaveBeenCalledWith("w1");
});
