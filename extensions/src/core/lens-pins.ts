// What a reader has pinned in a lens: tokens, groups of tokens that are followed as one, and rows.  Called by lens.ts.

/** Tokens are places in the vocabulary, rows places among the layers. */
export class Pins {
  /** Each a token alone or a group, in the order of pinning. */
  #groups: number[][];
  readonly rows: Set<number>;

  constructor(tokens: number[], groups: number[][], rows: number[]) {
    this.rows = new Set(rows);
    this.#groups = groups.filter((group) => group.length > 0);
    for (const token of tokens) if (!this.has(token)) this.#groups.push([token]);
  }

  get groups(): readonly (readonly number[])[] {
    return this.#groups;
  }

  get tokens(): number[] {
    return this.#groups.flat();
  }

  has(token: number): boolean {
    return this.#groups.some((group) => group.includes(token));
  }

  /** Pins a token, or takes its pin away; says whether it is pinned now. */
  turn(token: number): boolean {
    if (this.has(token)) {
      this.#groups = this.#groups.map((group) => group.filter((one) => one !== token));
      this.#groups = this.#groups.filter((group) => group.length > 0);
      return false;
    }
    this.#groups.push([token]);
    return true;
  }

  /** Puts a token into the group that was pinned last; gives that group, or the token alone where there is none. */
  join(token: number): readonly number[] {
    if (!this.has(token)) {
      const last = this.#groups.at(-1);
      if (last === undefined) this.#groups.push([token]);
      else last.push(token);
    }
    return this.#groups.find((group) => group.includes(token)) ?? [token];
  }

  /** Takes a whole group away. */
  drop(group: readonly number[]): void {
    this.#groups = this.#groups.filter((one) => one !== group);
  }

  turnRow(layer: number): boolean {
    if (this.rows.delete(layer)) return false;
    this.rows.add(layer);
    return true;
  }
}
