/** Events told to people: accesses with the register's name, calls with their arguments. */
import { hex, PAGE_SIZE } from '../core/addresses.js';
import { GGTT_OFFSET, REGISTER_FILE_SIZE } from '../core/gvt/device-info.js';
import { broadwellRegisters } from '../core/gvt/register-table.js';
import { ENGINES } from '../core/gvt/roles.js';
import { EVENTS, sizeOf, Tag, vgpuOf } from './events.js';
import { CALL, CALLS } from './tape.js';

/** Where a vGPU's BARs are, infinite where they are not. */
export type BarsOf = (vgpu: number) => { readonly bar0: number; readonly bar2: number } | undefined;

const ENGINE_BLOCK = 0x1000;
/** `PIPE_CONF at BAR0 + 0x70008`, `GGTT entry 5`, `BAR2 + 0x1000`, or the address. */
export function describeAddress(vgpu: number, gpa: number, barsOf: BarsOf): string {
  const bars = barsOf(vgpu);
  const offset = gpa - (bars?.bar0 ?? Number.POSITIVE_INFINITY);
  if (offset >= 0 && offset < REGISTER_FILE_SIZE) {
    const { name } = broadwellRegisters().find(offset);
    const engine = ENGINES.find(({ base }) => offset >= base && offset < base + ENGINE_BLOCK);
    const known = name === 'plain' ? 'register' : name;
    return `${engine === undefined ? '' : `${engine.name} `}${known} at BAR0 + ${hex(offset)}`;
  }
  if (offset >= GGTT_OFFSET && offset < GGTT_OFFSET * 2) return `GGTT entry ${hex((offset - GGTT_OFFSET) >>> 3)} at BAR0 + ${hex(offset)}`;
  const aperture = gpa - (bars?.bar2 ?? Number.POSITIVE_INFINITY);
  return aperture >= 0 && aperture < 2 ** 30 ? `BAR2 + ${hex(aperture)}` : hex(gpa);
}

const STATUS: Readonly<Record<number, string>> = {
  0: 'OK',
  [-5]: 'EIO',
  [-6]: 'ENXIO',
  [-14]: 'EFAULT',
  [-19]: 'ENODEV',
  [-22]: 'EINVAL',
  [-28]: 'ENOSPC',
  [-56]: 'EBADRQC',
};
export const describeStatus = (status: number): string => STATUS[status] ?? String(status);

/** `dword 0x1` by size. */
export const describeValue = (size: number, low: number, high = 0): string =>
  size === 8 ? `0x${high.toString(16)}${low.toString(16).padStart(8, '0')}` : hex(low);

/** A key of the page copies, and an offset in it. */
export const describePlace = (key: number, offset = 0): string =>
  `${key % 2 === 1 ? 'guest memory' : 'DMA address'} ${hex(Math.floor(key / 2) * PAGE_SIZE + offset)}`;

/** What the arguments of a call are. */
const ARGUMENTS: Partial<Record<(typeof CALLS)[number], readonly string[]>> = {
  attach_vgpu: ['VM', 'function'],
  inject_msi: ['address', 'data'],
  from_virt_to_mfn: ['address'],
  enable_page_track: ['frame'],
  disable_page_track: ['frame'],
  write_gpa: ['address', 'length', 'hash'],
  gfn_to_mfn: ['frame'],
  map_gfn_to_mfn: ['frame', 'host frame', 'frames', 'map'],
  dma_map_guest_page: ['frame', 'size'],
  dma_unmap_guest_page: ['address'],
  set_trap_area: ['start', 'end', 'map'],
  set_pvmmio: ['start', 'end', 'map'],
  set_opregion: ['host frame', 'frames', 'hash'],
  set_edid: ['port', 'length', 'hash'],
  is_valid_gfn: ['frame'],
  dma_pin_guest_page: ['address'],
  allocate_host_pages: ['frames'],
  release_host_pages: ['host frame', 'frames'],
};

export function describeCall(op: number, vgpu: number, ...values: readonly number[]): string {
  const name = CALLS[op] ?? `operation ${op}`;
  const names = ARGUMENTS[name as (typeof CALLS)[number]] ?? [];
  const told = names.map((what, i) => `${what} ${hex(values[i] ?? 0)}`);
  return `${name}(${[...(vgpu === 0 ? [] : [`vGPU ${vgpu}`]), ...told].join(', ')})`;
}

const access = (of: number): string => `${sizeOf(of)} byte${sizeOf(of) === 1 ? '' : 's'}`;
const written = (of: number, low: number, high: number): string => `${describeValue(sizeOf(of), low, high)} (${access(of)})`;

/** One line for an event. @param f its fields */
export function describeEvent(tag: number, f: ArrayLike<number>, barsOf: BarsOf): string {
  const n = (i: number): number => f[i] ?? 0;
  switch (tag) {
    case Tag.END:
      return `the answer ${describeValue(n(2) === 0 ? 4 : 8, n(1), n(2))}, status ${describeStatus(n(0))}`;
    case Tag.CALL:
      return `${describeCall(n(0), n(1), n(2), n(3), n(4), n(5))}${n(0) === CALL.dma_map_guest_page ? ` = ${hex(n(6))}` : ''}`;
    case Tag.REFUSED:
      return `${describeCall(n(0), n(1), n(2), n(3), n(4), n(5))}, refused`;
    case Tag.REPORTED:
      return `frame ${hex(n(1))} reported as written`;
    case Tag.PAGE:
      return `a look at ${describePlace(n(0))}`;
    case Tag.GONE:
      return `${describePlace(n(0))} is gone`;
    case Tag.STORE:
      return `a store of ${describeValue(n(2), n(3), n(4))} (${n(2)} bytes) to ${describePlace(n(0), n(1))}`;
    case Tag.STORE_SAME:
      return `a store of what the guest wrote to ${describePlace(n(0), n(1))}`;
    case Tag.FILL:
      return `a fill of ${n(2) - n(1)} bytes with ${hex(n(3))} at ${describePlace(n(0), n(1))}`;
    case Tag.BYTES:
      return `a copy of ${n(2)} bytes (hash ${hex(n(3))}) to ${describePlace(n(0), n(1))}`;
    case Tag.NOW:
      return `the clock, ${n(0)} ns`;
    case Tag.UNREADABLE:
      return `a look at ${hex(n(1))} that failed`;
    case Tag.CFG_READ:
      return `read of ${access(n(0))} of configuration register ${hex(n(1))}`;
    case Tag.CFG_WRITE:
      return `write of ${written(n(0), n(2), 0)} to configuration register ${hex(n(1))}`;
    case Tag.MMIO_READ:
      return `read of ${access(n(0))} of ${describeAddress(vgpuOf(n(0)), n(1), barsOf)}`;
    case Tag.MMIO_WRITE:
    case Tag.MMIO_WRITE_8:
      return `write of ${written(n(0), n(2), n(3))} to ${describeAddress(vgpuOf(n(0)), n(1), barsOf)}`;
    case Tag.WP:
      return `write of ${written(n(0), n(2), n(3))} to the tracked page at ${hex(n(1))}`;
    case Tag.PAGE_WRITTEN:
      return `report of the written frame ${hex(n(1))}`;
    case Tag.UNMAPPED:
      return 'guest memory went';
    case Tag.SLICE:
      return `slice of ${n(0)}`;
    case Tag.CONTROL:
      return 'a change by the owner of the device';
    case Tag.DEVICE_READ:
      return `read of ${n(2)} bytes of region ${n(0)} at ${hex(n(1))}`;
    case Tag.DEVICE_WRITE:
      return `write to region ${n(0)} at ${hex(n(1))}`;
    case Tag.DEVICE_RESET:
      return 'reset of the device';
    case Tag.CLOSE:
      return 'the end of the recording';
    default:
      return EVENTS[tag]?.name ?? `event ${tag}`;
  }
}
