/**
 * Numbers by number: a hash table with open addressing in typed arrays, for what the device model looks up for each page. A `Map` costs an
 * object and some 50 ns for each change; this allocates only when it grows, and does not shrink.
 */

/** Marks a free slot: keys are not negative. */
const FREE = -1;
const SMALLEST = 64;
/** Golden ratio, of 32 bits: neighbours lie far from each other. */
const SPREAD = 0x9e37_79b1;

export class NumberTable {
  #keys = new Float64Array(SMALLEST).fill(FREE);
  #values = new Uint32Array(SMALLEST);
  #shift = 32 - Math.log2(SMALLEST);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** @param key an integer of 0 to 2^53 - 1. @returns its value, or -1 */
  get(key: number): number {
    const slot = this.#find(key);
    return this.#keys[slot] === key ? (this.#values[slot] as number) : -1;
  }

  /** @param value 32 bits */
  set(key: number, value: number): void {
    let slot = this.#find(key);
    if (this.#keys[slot] !== key) {
      if (this.#size * 2 >= this.#keys.length) {
        this.#grow();
        slot = this.#find(key);
      }
      this.#keys[slot] = key;
      this.#size++;
    }
    this.#values[slot] = value;
  }

  /** What lies behind the freed slot moves up, so that lookups pass no marks of what was deleted. */
  delete(key: number): void {
    const keys = this.#keys;
    const values = this.#values;
    const mask = keys.length - 1;
    let hole = this.#find(key);
    if (keys[hole] !== key) return;
    this.#size--;
    for (let next = (hole + 1) & mask; keys[next] !== FREE; next = (next + 1) & mask) {
      const home = this.#home(keys[next] as number);
      if (((next - home) & mask) < ((next - hole) & mask)) continue;
      keys[hole] = keys[next] as number;
      values[hole] = values[next] as number;
      hole = next;
    }
    keys[hole] = FREE;
  }

  clear(): void {
    if (this.#size > 0) this.#keys.fill(FREE);
    this.#size = 0;
  }

  #home(key: number): number {
    return Math.imul((key | 0) ^ Math.imul((key / 2 ** 32) | 0, 0x85eb_ca6b), SPREAD) >>> this.#shift;
  }

  /** The key's slot, or the free one where it would be. */
  #find(key: number): number {
    const keys = this.#keys;
    const mask = keys.length - 1;
    let slot = this.#home(key);
    while (keys[slot] !== key && keys[slot] !== FREE) slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const keys = this.#keys;
    const values = this.#values;
    this.#keys = new Float64Array(keys.length * 2).fill(FREE);
    this.#values = new Uint32Array(keys.length * 2);
    this.#shift--;
    for (let i = 0; i < keys.length; i++) {
      if (keys[i] === FREE) continue;
      const slot = this.#find(keys[i] as number);
      this.#keys[slot] = keys[i] as number;
      this.#values[slot] = values[i] as number;
    }
  }
}
