// The page that a test draws on, and what a reader does there.
import { beforeEach } from "vitest";

export let host: HTMLElement;

/** Gives each test of a file an empty page. */
export function freshPage(): void {
  beforeEach(() => {
    document.head.replaceChildren();
    host = document.createElement("div");
    document.body.replaceChildren(host);
  });
}

export function one(selector: string): HTMLElement {
  const found = host.querySelector<HTMLElement>(selector);
  if (found === null) throw new Error(`nothing drawn for ${selector}`);
  return found;
}

export function all(selector: string): HTMLElement[] {
  return [...host.querySelectorAll<HTMLElement>(selector)];
}

export function texts(selector: string): (string | null)[] {
  return all(selector).map((node) => node.textContent);
}

export function cell(row: number, column: number): HTMLElement {
  return one(`td[data-row="${row}"][data-column="${column}"]`);
}

/** Presses a key where the keyboard is; says whether the view took it. */
export function type(key: string): boolean {
  const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
  document.activeElement?.dispatchEvent(event);
  return event.defaultPrevented;
}
