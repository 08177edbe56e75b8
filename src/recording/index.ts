/** Recording of what crosses a device model's boundaries, and replay without what was on the other side. */

import { MptError } from '../core/errors.js';
import { checkGpuSize, DEFAULT_GPU } from '../core/gvt/device-info.js';
import { Gvt } from '../core/gvt/gvt.js';
import type { GvtOptions } from '../core/gvt/gvt-options.js';
import type { MptBackend } from '../core/mpt-backend.js';
import type { SampleKindName } from '../core/samples/index.js';
import type { VfioDevice } from '../core/vfio/device.js';
import { EventWriter } from './event-writer.js';
import type { SuiteHeader } from './header.js';
import { RecordedDevice } from './recorded-device.js';
import { RecordedGvt } from './recorded-gvt.js';
import { RecordingTape } from './recording-tape.js';
import { RecordingSuiteTape } from './suite-tape.js';
import { TapedHost } from './taped-host.js';

export { EventReader } from './event-reader.js';
export type { RecordingHeader, SuiteHeader } from './header.js';
export { type ReplayOptions, type ReplayReport, replay } from './replay.js';
export type { Divergence } from './replay-tape.js';
export { SuiteBackend } from './suite-backend.js';
export { RecordingSuiteTape, ReplaySuiteTape, type SuiteTape } from './suite-tape.js';

/** A device model that is recorded, and the end of that. */
export interface Recorded<T> {
  readonly device: T;
  /** To be called when nothing comes for a moment: a process that is killed then has lost at most the last second. */
  idle(): void;
  /** Ends the recording in order. Idempotent. */
  close(): void;
}

/** What a recording is asked for. */
export interface RecordOptions {
  readonly path: string;
  /** Bytes that the file has at most; default 1 GiB. */
  readonly limit?: number | undefined;
  /** The file cannot be written any more, or has reached its limit: the device goes on, the recording has ended. */
  readonly onFailure: (error: MptError) => void;
}

const monotonic = (): number => performance.now() * 1e6;
const created = (): string => new Date().toISOString();

/** The device model, recorded when a file is named. @throws MptError IO when the file cannot be made; what `new Gvt` throws */
export function openGvt(backend: MptBackend, options: GvtOptions, record?: RecordOptions): Recorded<Gvt> {
  if (record === undefined) return { device: new Gvt(backend, options), idle: () => undefined, close: () => undefined };
  if (options.schedule !== undefined)
    throw new MptError('UNSUPPORTED', 'a vGPU that shares its GPU with other threads cannot be recorded', {
      op: 'record',
      hint: 'their turns would be missing; record it on a GPU of its own',
    });
  const { name, version, capabilities } = backend;
  const { aperture, ggtt, fences, generation, now = monotonic, switchPaceMs = 0 } = { ...DEFAULT_GPU, ...options };
  const gpu = checkGpuSize({ aperture, ggtt, fences, generation });
  const header = { kind: 'gvt', created: created(), backend: { name, version }, capabilities, gpu, switchPaceMs } as const;
  const writer = new EventWriter(record.path, header, record.limit);
  const tape = new RecordingTape({ writer, now, onFailure: record.onFailure });
  // Whether mistakes are told decides how often the clock is read. Processor time is nothing that a replay could have again: vGPUs pay by the clock.
  const { threadNs: _, ...others } = options;
  const told = { onGuestError: () => undefined, ...others };
  try {
    return recorded(new RecordedGvt(tape, new TapedHost(tape, { name, capabilities }, backend), told), tape);
  } catch (error) {
    tape.close();
    throw error;
  }
}

const recorded = <T>(device: T, tape: RecordingTape): Recorded<T> => ({ device, idle: () => tape.flushDue(), close: () => tape.close() });

/** The same of a small display device. @throws MptError IO */
export function openRecordedDevice(device: VfioDevice, kind: SampleKindName, type: string, record: RecordOptions): Recorded<VfioDevice> {
  const writer = new EventWriter(record.path, { kind: 'device', created: created(), device: kind, type }, record.limit);
  const tape = new RecordingTape({ writer, now: monotonic, onFailure: record.onFailure });
  return recorded<VfioDevice>(new RecordedDevice(tape, device), tape);
}

/** A tape for the conformance suite. @throws MptError IO */
export const openSuiteTape = (path: string, header: Omit<SuiteHeader, 'kind' | 'created'>): RecordingSuiteTape =>
  new RecordingSuiteTape(new EventWriter(path, { kind: 'conformance', created: created(), ...header }));

export { type OpenTrace, openTrace, type TraceOptions } from './trace-file.js';
