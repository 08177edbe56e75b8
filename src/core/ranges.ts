/** A sorted set of disjoint, end-inclusive ranges: trap areas, mapped frames, RAM. Lookup is a binary search. */

export interface Range<T> {
  readonly start: number;
  /** Last address that belongs to the range. */
  readonly end: number;
  readonly value: T;
}

export class RangeSet<T> {
  readonly #ranges: Range<T>[] = [];

  get size(): number {
    return this.#ranges.length;
  }

  [Symbol.iterator](): IterableIterator<Range<T>> {
    return this.#ranges.values();
  }

  /** The range that contains `address`. */
  find(address: number): Range<T> | undefined {
    const range = this.#ranges[this.#firstEndingAtOrAfter(address)];
    return range !== undefined && range.start <= address ? range : undefined;
  }

  /** The first range that shares an address with [start, end]. */
  overlapping(start: number, end: number): Range<T> | undefined {
    const range = this.#ranges[this.#firstEndingAtOrAfter(start)];
    return range !== undefined && range.start <= end ? range : undefined;
  }

  /** The range with exactly these bounds. */
  exact(start: number, end: number): Range<T> | undefined {
    const range = this.find(start);
    return range !== undefined && range.start === start && range.end === end ? range : undefined;
  }

  /** The ranges inside [start, end]; undefined when one lies only partly in it. */
  within(start: number, end: number): Range<T>[] | undefined {
    const found: Range<T>[] = [];
    for (let i = this.#firstEndingAtOrAfter(start); i < this.#ranges.length; i++) {
      const range = this.#ranges[i] as Range<T>;
      if (range.start > end) break;
      if (range.start < start || range.end > end) return undefined;
      found.push(range);
    }
    return found;
  }

  /** Adds a range; the caller has checked `overlapping`. */
  add(start: number, end: number, value: T): void {
    this.#ranges.splice(this.#firstEndingAtOrAfter(start), 0, { start, end, value });
  }

  /** Removes the range with exactly these bounds; false when there is none. */
  delete(start: number, end: number): boolean {
    const at = this.#firstEndingAtOrAfter(start);
    const range = this.#ranges[at];
    if (range === undefined || range.start !== start || range.end !== end) return false;
    this.#ranges.splice(at, 1);
    return true;
  }

  clear(): void {
    this.#ranges.length = 0;
  }

  /** Index of the first range whose end is not below `address`. */
  #firstEndingAtOrAfter(address: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ranges[middle] as Range<T>).end < address) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
