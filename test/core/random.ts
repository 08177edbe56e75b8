/** Random numbers with a fixed seed (Marsaglia's xorshift, 32 bits): a failing run fails again. */
export class Random {
  #state: number;

  /** @param seed any non-zero 32-bit number */
  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
  }

  /** 0 .. 2^32 - 1. */
  word(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state;
  }

  /** 0 .. limit - 1. */
  below(limit: number): number {
    return this.word() % limit;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }

  /** A copy in another order. */
  shuffled<T>(items: readonly T[]): T[] {
    const result = [...items];
    for (let i = result.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [result[i], result[j]] = [result[j] as T, result[i] as T];
    }
    return result;
  }
}
