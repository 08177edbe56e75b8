/** Views of pages by the number of what leads to them: as many as it has room for, each in the one place that the number's low bits give. */
import type { GpuPage } from './roles.js';

/** Equal to no number. */
const NONE = Number.NaN;

export class PageCache {
  readonly #numbers: Float64Array;
  readonly #pages: (GpuPage | undefined)[];
  readonly #mask: number;

  /** @param size a power of two */
  constructor(size: number) {
    this.#numbers = new Float64Array(size).fill(NONE);
    this.#pages = new Array<GpuPage | undefined>(size).fill(undefined);
    this.#mask = size - 1;
  }

  /** The page, unless its memory went. */
  get(number: number): GpuPage | undefined {
    const at = number & this.#mask;
    if (this.#numbers[at] !== number) return undefined;
    const page = this.#pages[at];
    return page === undefined || page.gone ? undefined : page;
  }

  /** @returns the page */
  keep(number: number, page: GpuPage): GpuPage {
    const at = number & this.#mask;
    this.#numbers[at] = number;
    this.#pages[at] = page;
    return page;
  }

  drop(number: number): void {
    const at = number & this.#mask;
    if (this.#numbers[at] === number) this.#numbers[at] = NONE;
  }

  /** Pages without their numbers are never looked at. */
  clear(): void {
    this.#numbers.fill(NONE);
  }
}
