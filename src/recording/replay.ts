/** Runs a device model against a recording, with no hypervisor. */
import { Gfn, Gpa, VgpuId } from '../core/addresses.js';
import type { DeviceMemories } from '../core/device-memory.js';
import { MptError } from '../core/errors.js';
import { Gvt } from '../core/gvt/gvt.js';
import { findSampleType, Samples } from '../core/samples/index.js';
import { Errno, type VfioDevice } from '../core/vfio/device.js';
import { applyControl, decodeControl } from './control.js';
import { endRead } from './device-answer.js';
import { EventReader } from './event-reader.js';
import { SLICE_MAX, sizeOf, Tag, vgpuOf } from './events.js';
import { badRecording, type DeviceHeader, type GvtHeader, type RecordingHeader } from './header.js';
import { type Divergence, ReplayTape } from './replay-tape.js';
import { TapedHost } from './taped-host.js';

export interface ReplayOptions {
  /** Asked now and then; true ends the replay. */
  readonly stop?: () => boolean;
  /** Called now and then with the part of the file that was read, 0 to 1. */
  readonly onProgress?: (part: number) => void;
  /** Called with each device model before its first step: for tests that change it. */
  readonly onDevice?: (device: Gvt | VfioDevice) => void;
}

export interface ReplayReport {
  readonly header: RecordingHeader;
  /** What came from outside: guest accesses, slices, and so on. */
  readonly steps: number;
  /** Those, and what the device model did in them. */
  readonly events: number;
  /** Looks at guest memory or the clock that the device model had no use for. */
  readonly unasked: number;
  /** Most pages of guest memory that were kept at once. */
  readonly pages: number;
  /** Milliseconds that the recording took; null: it was not ended in order. */
  readonly recordedMs: number | null;
  /** The file ends inside a block: the process that wrote it died. */
  readonly truncated: boolean;
  readonly divergence: Divergence | null;
}

/** Steps between two questions whether to stop. */
const CHECK_STEPS = 4096;

/** @throws MptError IO, BAD_RECORDING; STOPPED */
export function replay(path: string, options: ReplayOptions = {}): ReplayReport {
  const reader = new EventReader(path);
  try {
    const tape = new ReplayTape(reader);
    const { header } = reader;
    if (header.kind === 'conformance')
      throw new MptError('INTERNAL', 'a recording of the suite is replayed by the suite', { op: 'replay' });
    const player = header.kind === 'gvt' ? new GvtPlayer(tape, header, options) : new DevicePlayer(tape, header, options);
    let recordedMs: number | null = null;
    let pages = 0;
    for (let tag = tape.nextStep(); tag >= 0; tag = tape.nextStep()) {
      if (tag === Tag.CLOSE) recordedMs = reader.fields[0] as number;
      else player.step(tag, reader.fields, reader.blob);
      if (tape.divergence !== undefined) break;
      if (tape.steps % CHECK_STEPS !== 0) continue;
      pages = Math.max(pages, tape.copies.size);
      options.onProgress?.(reader.position / reader.size);
      if (options.stop?.() === true) break;
    }
    const { steps, events, unasked, divergence = null } = tape;
    pages = Math.max(pages, tape.copies.size);
    return { header, steps, events, unasked, pages, recordedMs, truncated: reader.truncated, divergence };
  } finally {
    reader.close();
  }
}

/** What takes a step of a recording to the device model and compares how it ended. */
interface Player {
  step(tag: number, fields: Float64Array, blob: Uint8Array): void;
}

class GvtPlayer implements Player {
  readonly #tape: ReplayTape;
  readonly #gvt: Gvt;
  readonly #value = new Uint32Array(2);

  constructor(tape: ReplayTape, { backend, capabilities, gpu, switchPaceMs = 0 }: GvtHeader, { onDevice }: ReplayOptions) {
    this.#tape = tape;
    const host = new TapedHost(tape, { name: backend.name, capabilities });
    const gvt = new Gvt(host, { ...gpu, switchPaceMs, now: () => tape.now(), onGuestError: () => undefined });
    tape.onReport = (vgpu, gfn) => void gvt.pageWritten(VgpuId(vgpu), Gfn(gfn));
    tape.barsOf = (vgpu) => gvt.vgpu(VgpuId(vgpu))?.config.bars;
    this.#gvt = gvt;
    onDevice?.(gvt);
  }

  step(tag: number, fields: Float64Array, blob: Uint8Array): void {
    const gvt = this.#gvt;
    const tape = this.#tape;
    const value = this.#value;
    const of = fields[0] as number;
    const id = vgpuOf(of) as VgpuId;
    const size = sizeOf(of);
    const address = fields[1] as number;
    value[0] = fields[2] as number;
    value[1] = tag === Tag.MMIO_WRITE ? 0 : (fields[3] as number);
    switch (tag) {
      case Tag.MMIO_WRITE:
      case Tag.MMIO_WRITE_8:
        tape.wrote(size, value);
        tape.end(gvt.emulateMmioWrite(id, Gpa(address), value, size));
        return;
      case Tag.MMIO_READ: {
        const status = gvt.emulateMmioRead(id, Gpa(address), value, size);
        tape.end(status, value, status === 0 ? size : 0);
        return;
      }
      case Tag.CFG_WRITE:
        value[1] = 0;
        tape.end(gvt.emulateCfgWrite(id, address, value, size));
        return;
      case Tag.CFG_READ: {
        const status = gvt.emulateCfgRead(id, address, value, size);
        tape.end(status, value, status === 0 ? size : 0);
        return;
      }
      case Tag.WP:
        tape.end(gvt.writeProtectHandler(id, Gpa(address), value, size));
        return;
      case Tag.SLICE:
        if (of > SLICE_MAX) throw badRecording('a slice is longer than any can be');
        gvt.runSlice(fields[0] as number);
        tape.end(0);
        return;
      case Tag.PAGE_WRITTEN:
        tape.end(gvt.pageWritten(VgpuId(of), Gfn(address)));
        return;
      case Tag.UNMAPPED:
        gvt.memoryUnmapped(VgpuId(of));
        tape.end(0);
        return;
      case Tag.CONTROL:
        applyControl(gvt, decodeControl(blob));
        tape.end(0);
        return;
      default:
        throw badRecording('a step is not one of a GVT device');
    }
  }
}

/** Memory of devices whose clients are in the file. */
const plainMemories: DeviceMemories = {
  allocate: (size) => ({ bytes: new Uint8Array(size), fd: -1, close: () => undefined }),
  exportPlane: () => Errno.EINVAL,
};

class DevicePlayer implements Player {
  readonly #tape: ReplayTape;
  readonly #device: VfioDevice;
  readonly #value = new Uint32Array(2);
  readonly #valueBytes = new Uint8Array(this.#value.buffer);
  #answer = new Uint8Array(0x1000);

  constructor(tape: ReplayTape, { device, type }: DeviceHeader, { onDevice }: ReplayOptions) {
    this.#tape = tape;
    this.#device = new Samples(plainMemories).create(findSampleType(type, device));
    onDevice?.(this.#device);
  }

  step(tag: number, fields: Float64Array, blob: Uint8Array): void {
    const region = fields[0] as number;
    const offset = fields[1] as number;
    switch (tag) {
      case Tag.DEVICE_READ:
        this.#read(region, offset, fields[2] as number, fields[3] !== 0);
        return;
      case Tag.DEVICE_WRITE:
        this.#tape.end(this.#device.write(region, offset, blob));
        return;
      case Tag.DEVICE_RESET:
        this.#tape.end(this.#device.reset());
        return;
      default:
        throw badRecording(`a step is not one of a ${this.#device.name}`);
    }
  }

  #read(region: number, offset: number, length: number, compared: boolean): void {
    if (length > READ_MAX) throw badRecording('a read is longer than any can be');
    if (this.#answer.length < length) this.#answer = new Uint8Array(length);
    const answer = this.#answer.subarray(0, length);
    const status = this.#device.read(region, offset, answer);
    endRead(this.#tape, status, answer, compared, this.#value, this.#valueBytes);
  }
}

const READ_MAX = 0x10_0000;
