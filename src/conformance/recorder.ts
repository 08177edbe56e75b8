/**
 * The device model's stand-in: it records each guest access that a backend delivers and answers reads with a
 * programmed value. What no vGPU owns is answered with all ones, as a bus without a device does.
 */
import type { Gfn, Gpa, VgpuId, VmId } from '../core/addresses.js';
import { type GvtOps, Status } from '../core/gvt-ops.js';
import { type AccessValue, IO_KIND_NAMES, IoKind, type IoRequest } from '../core/io-request.js';
import { CheckFailed, equal } from './expect.js';

/** One guest access as it was delivered. */
export interface Access {
  readonly kind: (typeof IO_KIND_NAMES)[number];
  readonly vm: number;
  /** vGPU to which the backend routed it, 0 for none. */
  readonly vgpu: number;
  readonly write: boolean;
  readonly address: number;
  readonly size: number;
  readonly bdf: number;
  /** Value written, low and high half; 0 for reads. */
  readonly low: number;
  readonly high: number;
}

/** Accesses kept: beyond it a case has gone wrong, and memory must not grow with it. */
const LOG_MAX = 8192;

export class Recorder implements GvtOps {
  readonly accesses: Access[] = [];
  /** `(vgpu, gfn)` of each page_written report of level `sync`, in order. */
  readonly pagesWritten: { readonly vgpu: number; readonly gfn: number }[] = [];
  /** What claimed reads, and port reads, return. */
  answer = { low: 0, high: 0 };
  /** Called with each access after it was recorded, before the guest goes on. */
  onAccess: ((access: Access) => void) | undefined;

  /** Takes one request of a VM's device thread, as the core's dispatcher does. */
  dispatch(vm: VmId, request: IoRequest): void {
    const { kind, vgpu, write, address, size, bdf, value } = request;
    const [low, high] = write ? [value[0] as number, value[1] as number] : [0, 0];
    const access = { kind: IO_KIND_NAMES[kind], vm, vgpu, write, address, size, bdf, low, high };
    if (this.accesses.length >= LOG_MAX) throw new CheckFailed(`more than ${LOG_MAX} guest accesses were delivered`);
    this.accesses.push(access);
    if (!write) this.#answer(value, vgpu !== 0 || kind === IoKind.PIO);
    this.onAccess?.(access);
  }

  /** Accesses of one kind, in order. */
  of(kind: Access['kind']): Access[] {
    return this.accesses.filter((access) => access.kind === kind);
  }

  /** The only access since the last `clear`, which must have these fields. */
  expectOne(expected: Partial<Access>): Access {
    equal(this.accesses.length, 1, `guest accesses delivered (${this.accesses.map(describe).join('; ')})`);
    const access = this.accesses[0] as Access;
    for (const key of Object.keys(expected) as (keyof Access)[]) equal(access[key], expected[key], `${describe(access)}: ${key}`);
    return access;
  }

  /** No access since the last `clear`. */
  expectNone(why: string): void {
    const first = this.accesses[0];
    if (first !== undefined) throw new CheckFailed(`${why}, but ${this.accesses.length} accesses were delivered: ${describe(first)}`);
  }

  clear(): void {
    this.accesses.length = 0;
    this.pagesWritten.length = 0;
  }

  #answer(value: AccessValue, claimed: boolean): void {
    value[0] = claimed ? this.answer.low : 0xffff_ffff;
    value[1] = claimed ? this.answer.high : 0xffff_ffff;
  }

  // --- GvtOps: a backend calls page_written itself; everything else reaches us as a request --------------------------

  pageWritten(vgpu: VgpuId, gfn: Gfn): Status {
    this.pagesWritten.push({ vgpu, gfn });
    return Status.OK;
  }
  emulateCfgRead(_vgpu: VgpuId, _offset: number, value: AccessValue, _size: number): Status {
    this.#answer(value, true);
    return Status.OK;
  }
  emulateCfgWrite(_vgpu: VgpuId, _offset: number, _value: AccessValue, _size: number): Status {
    return Status.OK;
  }
  emulateMmioRead(_vgpu: VgpuId, _gpa: Gpa, value: AccessValue, _size: number): Status {
    this.#answer(value, true);
    return Status.OK;
  }
  emulateMmioWrite(_vgpu: VgpuId, _gpa: Gpa, _value: AccessValue, _size: number): Status {
    return Status.OK;
  }
  writeProtectHandler(_vgpu: VgpuId, _gpa: Gpa, _value: AccessValue, _size: number): Status {
    return Status.OK;
  }
}

const describe = (access: Access): string =>
  `${access.kind} ${access.write ? 'write' : 'read'} of ${access.size} at 0x${access.address.toString(16)} for vGPU ${access.vgpu}`;
