// What the place that a result is drawn in can do for it, beyond showing it.  Made by the hosts and by together-view.ts,
// handed down by draw.ts.

export interface Place {
  /** Writes a line of code below the result's cell and runs it; undefined where no kernel is at hand. */
  run?: ((code: string) => void) | undefined;
  /** Asks the kernel to end a job; undefined where no kernel is at hand. */
  cancel?: ((handle: string) => void) | undefined;
  /** Shared by results that are drawn side by side. */
  scale?: OneScale;
  /** Is given what tells a reader's choices, so that the next result of a series can be shown with them. */
  watch?: (view: () => Record<string, unknown>) => void;
}

/** The ends of the scales that several views share: whoever has a larger figure has the others painted anew. */
export class OneScale {
  readonly #most = new Map<string, number>();
  readonly #views = new Map<object, { repaint: () => void; choose: (name: string) => void }>();

  join(view: object, repaint: () => void, choose: (name: string) => void): void {
    this.#views.set(view, { repaint, choose });
  }

  /** The largest figure of `name` that any view has shown. */
  most(name: string, own: number): number {
    const before = this.#most.get(name);
    if (before !== undefined && before >= own) return before;
    this.#most.set(name, own);
    if (before !== undefined) for (const { repaint } of this.#views.values()) queueMicrotask(repaint);
    return own;
  }

  /** Forgets the views that have joined, not their figures. */
  rest(): void {
    this.#views.clear();
  }

  /** Has the other views choose what one has chosen. */
  choose(by: object, name: string): void {
    for (const [view, { choose }] of this.#views) if (view !== by) choose(name);
  }
}
