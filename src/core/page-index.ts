/**
 * Numbers by page number, for what the device model looks up for each page: a table of 512 pages for each 2 MiB in which a page has one, as page
 * tables have it. Neighbours cost a load each; a `Map` costs an object and some 50 ns for each change. What guests choose as page numbers makes
 * no lookup longer, and memory is bounded by the pages that have a number: 2 KiB for each 2 MiB, given back with the last page in it.
 */
const PAGES = 512;
/** No number. */
const NONE = -1;

class Leaf {
  readonly values = new Int32Array(PAGES).fill(NONE);
  used = 0;
}

/** Stands for a leaf that does not exist: nothing is in it, and nothing is put there. */
const EMPTY = new Leaf();

export class PageIndex {
  readonly #leaves = new Map<number, Leaf>();
  /** The leaf that was used last, and which it is. */
  #last = EMPTY;
  #number = NONE;
  /** One that became empty: a page that comes and goes alone makes no new one each time. */
  #spare: Leaf | undefined;
  #size = 0;

  /** Pages that have a number. */
  get size(): number {
    return this.#size;
  }

  /** Leaves that are kept. */
  get leaves(): number {
    return this.#leaves.size;
  }

  /** @param page 0 to 2^53 - 1. @returns its number, or -1 */
  get(page: number): number {
    const { values } = this.#leafOf(page);
    return values[page - this.#number * PAGES] as number;
  }

  /** @param value 0 to 2^31 - 1 */
  set(page: number, value: number): void {
    let leaf = this.#leafOf(page);
    if (leaf === EMPTY) leaf = this.#add();
    const at = page - this.#number * PAGES;
    if (leaf.values[at] === NONE) {
      leaf.used++;
      this.#size++;
    }
    leaf.values[at] = value;
  }

  delete(page: number): void {
    const leaf = this.#leafOf(page);
    const at = page - this.#number * PAGES;
    if (leaf.values[at] === NONE) return;
    leaf.values[at] = NONE;
    this.#size--;
    if (--leaf.used === 0) this.#remove();
  }

  clear(): void {
    this.#leaves.clear();
    this.#last = EMPTY;
    this.#size = 0;
  }

  #leafOf(page: number): Leaf {
    const number = Math.floor(page / PAGES);
    return number === this.#number ? this.#last : this.#find(number);
  }

  // Apart, so that what is done for each page is small enough to be inlined.

  #find(number: number): Leaf {
    this.#number = number;
    this.#last = this.#leaves.get(number) ?? EMPTY;
    return this.#last;
  }

  #add(): Leaf {
    this.#last = this.#spare ?? new Leaf();
    this.#spare = undefined;
    this.#leaves.set(this.#number, this.#last);
    return this.#last;
  }

  #remove(): void {
    this.#spare = this.#last;
    this.#leaves.delete(this.#number);
    this.#last = EMPTY;
  }
}
