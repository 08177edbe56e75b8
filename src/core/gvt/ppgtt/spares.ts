/** What page tables of the same size need again and again: an array of 4 KiB takes a microsecond to be made, and a shadow comes and goes with its process. */
export class Spares<T> {
  readonly #kept: T[] = [];
  readonly #max: number;
  readonly #make: () => T;

  /** @param max kept at most */
  constructor(max: number, make: () => T) {
    this.#max = max;
    this.#make = make;
  }

  take(): T {
    return this.#kept.pop() ?? this.#make();
  }

  /** Gives one back, as `make` made it: its user has forgotten it. */
  give(spare: T): void {
    if (this.#kept.length < this.#max) this.#kept.push(spare);
  }
}
