/** The head of a recording: what it is of, and on what it was made. */
import type { Capabilities, PageTrackLevel } from '../core/capabilities.js';
import { MptError } from '../core/errors.js';
import type { GpuSize } from '../core/gvt/device-info.js';
import type { SampleKindName } from '../core/samples/index.js';

/** Bytes at the start of the file; the digit is the format's version. */
export const MAGIC = 'MPTREC1\n';
export const HEADER_MAX = 0x1_0000;

interface Common {
  /** ISO 8601. */
  readonly created: string;
}

/** A GVT device model over an MPT backend. */
export interface GvtHeader extends Common {
  readonly kind: 'gvt';
  readonly backend: { readonly name: string; readonly version: string };
  readonly capabilities: Capabilities;
  readonly gpu: GpuSize;
  /** As `GvtOptions` has it. Default 0. */
  readonly switchPaceMs?: number;
}

/** A small display device behind its VFIO view. */
export interface DeviceHeader extends Common {
  readonly kind: 'device';
  readonly device: SampleKindName;
  readonly type: string;
}

/** A backend under the conformance suite. */
export interface SuiteHeader extends Common {
  readonly kind: 'conformance';
  readonly backend: { readonly name: string; readonly version: string };
  /** Cases whose id starts with this. */
  readonly filter: string;
  /** Levels of page track that cases could ask for. */
  readonly pageTrackLevels: readonly PageTrackLevel[];
  readonly caseTimeoutMs?: number;
}

export type RecordingHeader = GvtHeader | DeviceHeader | SuiteHeader;

export const badRecording = (what: string, hint?: string): MptError =>
  new MptError('BAD_RECORDING', what, { op: 'replay', ...(hint === undefined ? {} : { hint }) });

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
const isText = (value: unknown): value is string => typeof value === 'string' && value.length <= 256;

/** @throws MptError BAD_RECORDING with what is missing */
export function parseHeader(text: string): RecordingHeader {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch {
    throw badRecording('the head of the recording is no JSON');
  }
  if (!isRecord(header)) throw badRecording('the head of the recording is no object');
  const { kind, created } = header;
  if (!isText(created)) throw badRecording('the head of the recording does not tell when it was made');
  if (kind === 'device') {
    const { device, type } = header;
    if ((device !== 'mbochs' && device !== 'mdpy') || !isText(type)) throw badRecording('the head of the recording names no device');
    return { kind, created, device, type };
  }
  if (kind === 'conformance') {
    const { backend, filter, pageTrackLevels, caseTimeoutMs } = header;
    if (!isRecord(backend) || !isText(backend['name']) || !isText(backend['version']) || !isText(filter))
      throw badRecording('the head of the recording names no backend');
    if (!Array.isArray(pageTrackLevels) || !(caseTimeoutMs === undefined || Number.isSafeInteger(caseTimeoutMs)))
      throw badRecording('the head of the recording does not tell how the suite was run');
    return header as unknown as SuiteHeader;
  }
  if (kind !== 'gvt') throw badRecording(`recordings of the kind ${JSON.stringify(kind)} are not known here`, 'use a newer mpt');
  const { backend, capabilities, gpu } = header;
  if (!isRecord(backend) || !isText(backend['name']) || !isText(backend['version']))
    throw badRecording('the head of the recording names no backend');
  if (
    !isRecord(capabilities) ||
    !Object.values(capabilities).every((value) => value === null || ['boolean', 'string'].includes(typeof value))
  )
    throw badRecording('the head of the recording has no capabilities');
  if (!isRecord(gpu) || ![gpu['aperture'], gpu['ggtt'], gpu['fences']].every(Number.isSafeInteger))
    throw badRecording('the head of the recording has no size of the GPU');
  const { switchPaceMs = 0 } = header;
  if (typeof switchPaceMs !== 'number' || !(switchPaceMs >= 0 && switchPaceMs <= 1000))
    throw badRecording('the head of the recording has an impossible pace of context switches');
  return header as unknown as GvtHeader;
}
