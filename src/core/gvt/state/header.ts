/**
 * The header of a saved vGPU: what it is a state of, and which sections follow. JSON, so that a person can read it. Whoever has a
 * schema validator may check it against `vgpu-state.schema.json` too, for better messages; what stands here is what counts.
 */
import { PCI_IDENTITY } from '../device-info.js';
import { CONNECTORS, type Connector } from '../display/connector.js';
import type { GpuRange } from '../resources.js';
import { refusal } from './limits.js';

export const FORMAT = 'mpt-vgpu-state';
export const FORMAT_VERSION = 1;
/** PCI vendor and device id. */
export const DEVICE = [PCI_IDENTITY.vendor, PCI_IDENTITY.device].map((id) => id.toString(16).padStart(4, '0')).join(':');

export interface StateHeader {
  readonly format: typeof FORMAT;
  readonly version: typeof FORMAT_VERSION;
  readonly device: string;
  /** The GPU that is divided: a vGPU's guest sees its sizes. Bytes. */
  readonly gpu: { readonly aperture: number; readonly ggtt: number; readonly fences: number };
  readonly vgpu: StateOfVgpu;
  /** In the order in which they follow. */
  readonly sections: readonly SectionHeader[];
}

export interface StateOfVgpu {
  /** Name in the type table. */
  readonly type: string;
  /** 1 to 7: as the guest knows it. Another one is given where it is taken. */
  readonly id: number;
  /** PCI function in the guest. */
  readonly bdf: number;
  readonly display: boolean;
  /** What the monitor is connected by. */
  readonly connector: Connector;
  /** Bytes of the GGTT's address space, which the guest knows: no other range will do. */
  readonly aperture: GpuRange;
  readonly hidden: GpuRange;
  /** How many. */
  readonly fences: number;
  readonly weight: number;
  readonly resolution: { readonly width: number; readonly height: number };
}

export interface SectionHeader {
  readonly name: string;
  readonly bytes: number;
  readonly crc32: number;
}

/** What a value of the header may be. */
type Shape = { readonly [name: string]: Shape } | readonly [item: Shape, max: number] | ((value: unknown) => boolean);

const count =
  (max: number, min = 0) =>
  (value: unknown): boolean =>
    Number.isInteger(value) && (value as number) >= min && (value as number) <= max;
const text = (value: unknown): boolean => typeof value === 'string' && /^[\w:.-]{1,64}$/.test(value);

const ADDRESS = count(2 ** 32);
const RANGE = { start: ADDRESS, size: ADDRESS };

const SHAPE = {
  format: (value: unknown) => value === FORMAT,
  version: (value: unknown) => value === FORMAT_VERSION,
  device: text,
  gpu: { aperture: ADDRESS, ggtt: ADDRESS, fences: count(32) },
  vgpu: {
    type: text,
    id: count(7, 1),
    bdf: count(0xffff),
    display: (value: unknown) => typeof value === 'boolean',
    connector: (value: unknown) => CONNECTORS.includes(value as Connector),
    aperture: RANGE,
    hidden: RANGE,
    fences: count(32),
    weight: count(0xffff, 1),
    resolution: { width: count(0xffff, 1), height: count(0xffff, 1) },
  },
  sections: [{ name: text, bytes: count(2 ** 26), crc32: count(2 ** 32 - 1) }, 32],
} as const satisfies Shape;

/** Path of the first value that does not fit, with what is wrong with it; undefined when all do. */
function misfit(value: unknown, shape: Shape, path: string): string | undefined {
  if (typeof shape === 'function') return shape(value) ? undefined : `${path} is ${shown(value)}`;
  if (Array.isArray(shape)) {
    const [item, max] = shape as readonly [Shape, number];
    if (!Array.isArray(value) || value.length > max) return `${path} is no list of at most ${max}`;
    return firstOf(value.map((entry, i) => [entry, item, `${path}/${i}`] as const));
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return `${path || '/'} is ${shown(value)}`;
  const fields = shape as Readonly<Record<string, Shape>>;
  const unknown = Object.keys(value).find((name) => !Object.hasOwn(fields, name));
  if (unknown !== undefined) return `${path}/${unknown.slice(0, 40)} is not known`;
  const missing = Object.keys(fields).find((name) => !Object.hasOwn(value, name));
  if (missing !== undefined) return `${path}/${missing} is missing`;
  return firstOf(
    Object.entries(fields).map(([name, field]) => [(value as Record<string, unknown>)[name], field, `${path}/${name}`] as const),
  );
}

function firstOf(checks: readonly (readonly [value: unknown, shape: Shape, path: string])[]): string | undefined {
  for (const check of checks) {
    const found = misfit(...check);
    if (found !== undefined) return found;
  }
  return undefined;
}

const shown = (value: unknown): string => {
  const json = typeof value === 'object' && value !== null ? 'an object or list' : (JSON.stringify(value) ?? String(value));
  return json.length > 60 ? `${json.slice(0, 60)}…` : json;
};

/** @throws MptError BAD_STATE that names the first value that does not fit */
export function checkHeader(value: unknown): StateHeader {
  const found = misfit(value, SHAPE, '');
  if (found !== undefined) throw refusal('restore_vgpu', `the saved state’s header is not accepted: ${found}`);
  return value as StateHeader;
}
