/** The small display devices, by kind and type, and how many there can be (facts: gvt.md 7.7, 7.8). */
import type { DeviceMemories } from '../device-memory.js';
import { MptError } from '../errors.js';
import { nearestName } from '../nearest-name.js';
import { MBOCHS_TYPES, Mbochs, mbochsAttributes } from './mbochs.js';
import { MDPY_TYPES, Mdpy, mdpyAttributes } from './mdpy.js';
import type { SampleDevice } from './sample-device.js';

export type { SampleDevice } from './sample-device.js';

const MIB = 0x10_0000;
/** Linux: too many users, no space. */
const EUSERS = 87;
const ENOSPC = 28;

export interface SampleType {
  readonly kind: SampleKindName;
  /** With the kind, as mdev names it: `mbochs-small`. */
  readonly name: string;
  readonly description: string;
  /** What the vendor's sysfs group tells of an instance, as `resolution`: `1024x768`. */
  readonly attributes: Readonly<Record<string, string>>;
  /** What an instance takes of the kind's capacity. */
  readonly cost: number;
  /** @throws what the allocation throws */
  create(memories: DeviceMemories, onClose: () => void): SampleDevice;
}

export type SampleKindName = 'mdpy' | 'mbochs';

export interface SampleKind {
  readonly name: SampleKindName;
  readonly description: string;
  readonly types: readonly SampleType[];
  /** What all instances together may take: mdpy instances, bytes of mbochs memory. */
  readonly capacity: number;
  /** The error when that is used up. */
  readonly exhausted: { readonly code: 'LIMIT' | 'NO_SPACE'; readonly errno: number; readonly text: string };
}

export const SAMPLE_KINDS: readonly SampleKind[] = [
  {
    name: 'mdpy',
    description: 'display of a fixed size, framebuffer in BAR0',
    types: MDPY_TYPES.map((type) => ({
      kind: 'mdpy',
      name: `mdpy-${type.name}`,
      description: `virtual display, ${type.width}x${type.height} framebuffer`,
      attributes: mdpyAttributes(type),
      cost: 1,
      create: (memories, onClose) => Mdpy.create(type, memories, onClose),
    })),
    capacity: 4,
    exhausted: { code: 'LIMIT', errno: EUSERS, text: 'there are as many mdpy devices as there can be' },
  },
  {
    name: 'mbochs',
    description: 'display with the Bochs interface, for which Linux has a driver',
    types: MBOCHS_TYPES.map((type) => ({
      kind: 'mbochs',
      name: `mbochs-${type.name}`,
      description: `virtual display, ${type.memory / MIB} MB video memory`,
      attributes: mbochsAttributes(type),
      cost: type.memory,
      create: (memories, onClose) => Mbochs.create(type, memories, onClose),
    })),
    capacity: 256 * MIB,
    exhausted: { code: 'NO_SPACE', errno: ENOSPC, text: 'the mbochs devices have not that much video memory left' },
  },
];

export const SAMPLE_TYPES: readonly SampleType[] = SAMPLE_KINDS.flatMap(({ types }) => types);

/**
 * @param name `mbochs-small`, or `small` when `kind` is given
 * @throws MptError BAD_TYPE, with the nearest name
 */
export function findSampleType(name: string, kind?: SampleKindName): SampleType {
  const types = SAMPLE_TYPES.filter((type) => kind === undefined || type.kind === kind);
  const found = types.find((type) => type.name === name || (kind !== undefined && type.name === `${kind}-${name}`));
  if (found !== undefined) return found;
  const names = types.map((type) => type.name);
  const near = nearestName(kind === undefined || name.startsWith(kind) ? name : `${kind}-${name}`, names);
  const known = `types: ${names.join(', ')}`;
  throw new MptError('BAD_TYPE', `no device type is named '${name}'`, {
    op: 'create_device',
    hint: near === undefined ? known : `did you mean ${near}? ${known}`,
  });
}

/** The error when a kind's capacity has not `cost` left. */
export function sampleExhausted(kind: SampleKindName, cost: number, left: number, hint: string): MptError {
  const { code, errno, text } = (SAMPLE_KINDS.find(({ name }) => name === kind) as SampleKind).exhausted;
  return new MptError(code, text, { op: 'create_device', errno, size: cost, limit: left, hint });
}

/** The instances of one host, within each kind's capacity. */
export class Samples {
  readonly #memories: DeviceMemories;
  readonly #capacity: Readonly<Record<SampleKindName, number>>;
  readonly #used: Record<SampleKindName, number> = { mdpy: 0, mbochs: 0 };

  /** @param capacity replaces a kind's own, as the originals' module parameters do */
  constructor(memories: DeviceMemories, capacity: Partial<Record<SampleKindName, number>> = {}) {
    this.#memories = memories;
    const own = Object.fromEntries(SAMPLE_KINDS.map((kind) => [kind.name, kind.capacity])) as Record<SampleKindName, number>;
    this.#capacity = { ...own, ...capacity };
  }

  /** How many more devices of the type there can be. */
  available({ kind, cost }: SampleType): number {
    return Math.floor((this.#capacity[kind] - this.#used[kind]) / cost);
  }

  /**
   * Creates a device; its `close()` gives back what it took.
   * @throws MptError LIMIT (mdpy) or NO_SPACE (mbochs) past the capacity; what the allocation throws. Nothing is kept then
   */
  create(type: SampleType): SampleDevice {
    const { kind, cost } = type;
    if (this.available(type) < 1)
      throw sampleExhausted(kind, cost, this.#capacity[kind] - this.#used[kind], 'close a device, or choose a smaller type');
    const device = type.create(this.#memories, () => {
      this.#used[kind] -= cost;
    });
    this.#used[kind] += cost;
    return device;
  }
}
