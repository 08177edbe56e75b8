/** Messages that a hostile client may send, from a seed: nearly right, wrong in one place, or nothing but bytes. */
import { Command, HeaderFlag, LIMITS, MESSAGE_MAX } from '../../src/vfio/protocol.js';
import type { Random } from '../core/random.js';
import { text, u16, u32, u64 } from './support.js';

/** What kind of descriptor rides on a message; who sends it makes it. */
export const FD_KINDS = [
  'memfd',
  'sealed',
  'frozen',
  'loose',
  'empty',
  'eventfd',
  'fifo',
  'socket',
  'directory',
  'null',
  'readonly',
] as const;
export type FdKind = (typeof FD_KINDS)[number];

export interface Step {
  readonly bytes: Uint8Array;
  readonly fds: readonly FdKind[];
  /** The header tells the true size and a command: it gets exactly one answer, unless it wants none. */
  readonly whole: boolean;
  readonly id: number;
  readonly command: number;
  readonly flags: number;
}

export interface Shape {
  /** Regions with their sizes. */
  readonly regions: readonly (readonly [index: number, size: number])[];
}

const DWORDS = [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 48, 255, 256, 2047, 2048, 2049, 4096, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
const QUADS = [
  0n,
  1n,
  4n,
  0xfffn,
  0x1000n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 52n - 4096n,
  2n ** 52n,
  2n ** 53n - 1n,
  2n ** 53n + 1n,
  2n ** 63n,
  2n ** 64n - 4096n,
  2n ** 64n - 1n,
];
const COUNTS = [
  0,
  1,
  1,
  2,
  2,
  4,
  4,
  4,
  8,
  8,
  3,
  5,
  7,
  64,
  255,
  4096,
  LIMITS.maxDataXferSize,
  LIMITS.maxDataXferSize + 1,
  0x7fff_ffff,
  0xffff_ffff,
];
const COMMANDS = Object.values(Command);

export class Fuzzer {
  readonly #random: Random;
  readonly #shape: Shape;

  constructor(random: Random, shape: Shape) {
    this.#random = random;
    this.#shape = shape;
  }

  next(): Step {
    const random = this.#random;
    const id = random.below(0x1_0000);
    const command = random.below(20) === 0 ? random.below(0x1_0000) : random.pick(COMMANDS);
    let flags = random.below(8) === 0 ? HeaderFlag.NO_REPLY : 0;
    let [body, fds] = this.#body(command);
    switch (random.below(12)) {
      case 0:
        body = body.slice(0, random.below(body.length + 1));
        break;
      case 1:
        body = [...body, ...this.#bytes(random.below(64))];
        break;
      case 2:
        body = this.#bytes(random.below(128));
        break;
      case 3:
        fds = this.#fds(random.below(LIMITS.maxMsgFds + 3));
        break;
      case 4:
        fds = [];
        break;
      case 5:
        // Bits that mean nothing, never those of the type.
        flags |= (random.word() << 6) >>> 0;
        break;
      default:
    }
    let whole = true;
    let size = 16 + body.length;
    const oddity = random.below(120);
    if (oddity === 0) flags = (flags | random.pick([HeaderFlag.REPLY, HeaderFlag.REPLY | HeaderFlag.ERROR, 2, 15])) >>> 0;
    if (oddity === 1) size = random.pick([0, 1, 15, MESSAGE_MAX + 1, 0x7fff_ffff, 0xffff_ffff]);
    if (oddity === 2) size += 1 + random.below(64);
    if (oddity === 3) size = Math.max(16, size - 1 - random.below(16));
    if (oddity <= 3) whole = oddity === 3 && size === 16 + body.length;
    let bytes = Uint8Array.from([
      ...u16(id),
      ...u16(command),
      ...u32(size),
      ...u32(flags),
      ...u32(random.below(4) === 0 ? random.word() : 0),
      ...body,
    ]);
    if (oddity === 4) {
      bytes = Uint8Array.from(this.#bytes(1 + random.below(200)));
      whole = false;
    }
    return { bytes, fds, whole, id, command, flags };
  }

  /** A body as the command has it, of values that are likely to hurt. */
  #body(command: number): [body: number[], fds: FdKind[]] {
    const random = this.#random;
    const dword = (): number[] => u32(random.below(4) === 0 ? random.word() : random.pick(DWORDS));
    const quad = (): number[] => u64(random.pick(QUADS));
    switch (command) {
      case Command.VERSION:
        return [
          [...u16(random.below(2)), ...dword().slice(0, 2), ...text(random.pick(['{}\0', '{"capabilities":{}}\0', '[', '\0', '']))],
          [],
        ];
      case Command.DMA_MAP: {
        const [address, size] = this.#range();
        const offset = random.below(3) > 0 ? u64(0x1000 * random.below(3)) : quad();
        const fds: FdKind[] = random.below(3) > 0 ? [random.pick(FD_KINDS)] : [];
        return [[...u32(32), ...u32(random.below(6) === 0 ? random.below(9) : 3), ...offset, ...address, ...size], fds];
      }
      case Command.DMA_UNMAP: {
        const [address, size] = random.below(12) === 0 ? [u64(0), u64(0)] : this.#range();
        return [[...u32(24), ...u32(random.below(4) === 0 ? random.below(5) : 0), ...address, ...size], []];
      }
      case Command.DEVICE_SET_IRQS: {
        const data = random.pick([1, 2, 4, 4, 4, 0, 6, random.below(8)]);
        const count = random.below(3) === 0 ? random.pick(DWORDS) : random.below(18);
        const bools = (data & 2) === 0 ? [] : this.#bytes(random.below(2) === 0 ? Math.min(count, 64) : random.below(20));
        const fds =
          (data & 4) === 0
            ? []
            : new Array(Math.min(count, LIMITS.maxMsgFds)).fill(0).map(() => (random.below(8) === 0 ? random.pick(FD_KINDS) : 'eventfd'));
        return [
          [
            ...u32(20 + bools.length),
            ...u32(data | random.pick([8, 0x10, 0x20, 0x20, 0x20, 0x38, random.below(64)])),
            ...u32(random.below(6)),
            ...u32(random.below(3) === 0 ? random.pick(DWORDS) : random.below(2)),
            ...u32(count),
            ...bools,
          ],
          fds,
        ];
      }
      case Command.REGION_READ:
      case Command.REGION_WRITE: {
        const [region, offset] = this.#place();
        const count = random.pick(COUNTS);
        const data = command === Command.REGION_READ ? [] : this.#bytes(random.below(12) === 0 ? random.below(64) : Math.min(count, 4096));
        return [[...offset, ...u32(region), ...u32(count), ...data], []];
      }
      case Command.REGION_WRITE_MULTI: {
        const count = random.pick([0, 1, 2, 3, 20, 200, 201]);
        const told = random.below(6) === 0 ? quad() : u64(count);
        const entries = new Array(count).fill(0).flatMap(() => {
          const [region, offset] = this.#place();
          return [...offset, ...u32(region), ...u32(random.below(10)), ...this.#bytes(8)];
        });
        return [[...told, ...entries], []];
      }
      case Command.DEVICE_GET_INFO:
      case Command.DEVICE_GET_REGION_IO_FDS:
      case Command.DEVICE_GET_IRQ_INFO:
        return [[...u32(random.pick([0, 15, 16, 16, 16, 0xffff_ffff])), ...dword(), ...u32(random.below(20)), ...dword()], []];
      case Command.DEVICE_GET_REGION_INFO:
        return [
          [...u32(random.pick([0, 31, 32, 32, 4096, 0xffff_ffff])), ...dword(), ...u32(random.below(20)), ...dword(), ...quad(), ...quad()],
          [],
        ];
      default:
        return [this.#bytes(random.below(48)), []];
    }
  }

  /** Of guest memory: few places, so that maps meet. */
  #range(): [address: number[], size: number[]] {
    const random = this.#random;
    if (random.below(5) === 0) return [u64(random.pick(QUADS)), u64(random.pick(QUADS))];
    return [u64(0x1000 * random.below(16)), u64(0x1000 * (1 + random.below(3)))];
  }

  /** A region and an offset, often near its end. */
  #place(): [region: number, offset: number[]] {
    const random = this.#random;
    const [index, size] = random.pick(this.#shape.regions);
    const region = random.below(10) === 0 ? random.pick(DWORDS) : index;
    switch (random.below(4)) {
      case 0:
        return [region, u64(Math.max(0, size + random.below(9) - 8))];
      case 1:
        return [region, u64(random.pick(QUADS))];
      default:
        return [region, u64(random.below(Math.min(size, 0x20_0000)) & (random.below(3) === 0 ? -1 : ~3))];
    }
  }

  #bytes(count: number): number[] {
    const bytes: number[] = [];
    for (let i = 0; i < count; i++) bytes.push(this.#random.word() & 0xff);
    return bytes;
  }

  #fds(count: number): FdKind[] {
    return new Array(count).fill(0).map(() => this.#random.pick(FD_KINDS));
  }
}
