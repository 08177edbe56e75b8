/**
 * Numbers by number: a hash table with open addressing in typed arrays, for what the device model looks up for each page. A `Map` costs an
 * object and some 50 ns for each change; this allocates only when it grows, and does not shrink.
 *
 * The keys are a guest's to choose. One that knows the hash could have all of its frames in one row of slots, and each lookup would pass half of
 * them. A table in which a lookup passes many slots therefore takes another hash, with a number of its own in it, which no guest knows. Not from
 * the start: frames that follow one another, as those of most guests do, take half as long with the plain one.
 */

/** Marks a free slot: keys are not negative. */
const FREE = -1;
const SMALLEST = 64;
/** Golden ratio, of 32 bits: neighbours lie far from each other. */
const SPREAD = 0x9e37_79b1;
/** Odd, of 32 bits (MurmurHash3's). */
const MIX_HIGH = 0x85eb_ca6b;
const MIX = 0xc2b2_ae35;
/** Slots that a lookup, or what moves up after one, passes at most by the plain hash. A table is half full: by chance it is a few. */
const PASSED_MAX = 128;
/** The plain hash. */
const UNSEEDED = 0;

export class NumberTable {
  #keys = new Float64Array(SMALLEST).fill(FREE);
  #values = new Uint32Array(SMALLEST);
  #shift = 32 - Math.log2(SMALLEST);
  #size = 0;
  #seed = UNSEEDED;

  get size(): number {
    return this.#size;
  }

  /** Slots in use that follow one another: what a lookup passes at most. Looks at all of them. */
  get longestRun(): number {
    let longest = 0;
    let run = 0;
    for (const key of this.#keys) {
      run = key === FREE ? 0 : run + 1;
      longest = Math.max(longest, run);
    }
    return longest;
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
    let hole = this.#find(key);
    const keys = this.#keys;
    const values = this.#values;
    const mask = keys.length - 1;
    if (keys[hole] !== key) return;
    this.#size--;
    const first = hole;
    for (let next = (hole + 1) & mask; keys[next] !== FREE; next = (next + 1) & mask) {
      if (((next - first) & mask) > PASSED_MAX && this.#seed === UNSEEDED) {
        keys[hole] = FREE;
        this.#reseed();
        return;
      }
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
    const word = (key | 0) ^ Math.imul((key / 2 ** 32) | 0, MIX_HIGH);
    if (this.#seed === UNSEEDED) return Math.imul(word, SPREAD) >>> this.#shift;
    const mixed = Math.imul(word ^ this.#seed, MIX);
    return Math.imul(mixed ^ (mixed >>> 15), SPREAD) >>> this.#shift;
  }

  /** The key's slot, or the free one where it would be. May place all anew. */
  #find(key: number): number {
    const keys = this.#keys;
    const mask = keys.length - 1;
    const home = this.#home(key);
    let slot = home;
    while (keys[slot] !== key && keys[slot] !== FREE) slot = (slot + 1) & mask;
    if (((slot - home) & mask) <= PASSED_MAX || this.#seed !== UNSEEDED) return slot;
    this.#reseed();
    return this.#find(key);
  }

  #reseed(): void {
    this.#seed = 1 + Math.floor(Math.random() * (2 ** 31 - 1));
    this.#place(this.#keys.length);
  }

  #grow(): void {
    this.#shift--;
    this.#place(this.#keys.length * 2);
  }

  /** Puts all into new arrays. */
  #place(length: number): void {
    const keys = this.#keys;
    const values = this.#values;
    this.#keys = new Float64Array(length).fill(FREE);
    this.#values = new Uint32Array(length);
    for (let i = 0; i < keys.length; i++) {
      if (keys[i] === FREE) continue;
      const slot = this.#find(keys[i] as number);
      this.#keys[slot] = keys[i] as number;
      this.#values[slot] = values[i] as number;
    }
  }
}
