/**
 * What travels on the daemon's control socket: frames as on a display socket (../display/protocol.ts), without payloads. Each request, a
 * header with `op`, is answered by `{"result":…}` or `{"error":{…}}`, in order.
 */
import { MptError } from '../../core/errors.js';
import type { Frame, FrameLimits } from '../display/protocol.js';
import type { TypeInfo, VgpuDetails, VgpuInfo } from './info.js';

export interface CreateOrder {
  readonly op: 'create';
  readonly type: string;
  readonly gpu?: string;
  /** Default: a new one. */
  readonly uuid?: string;
  readonly settings?: Readonly<Record<string, string>>;
}

export type ControlRequest =
  | { readonly op: 'types' }
  | { readonly op: 'list' }
  | CreateOrder
  | { readonly op: 'remove'; readonly uuid: string }
  | { readonly op: 'show'; readonly uuid: string }
  | { readonly op: 'set'; readonly uuid: string; readonly settings: Readonly<Record<string, string>> };

/** By `op`. */
export interface ControlResults {
  readonly types: readonly TypeInfo[];
  readonly list: readonly VgpuInfo[];
  readonly create: VgpuDetails;
  readonly remove: { readonly uuid: string };
  readonly show: VgpuDetails;
  readonly set: VgpuDetails;
}

export const CONTROL_REQUEST_LIMITS: FrameLimits = { header: 16_384, payload: 0 };
/** 65,536 vGPUs of 400 bytes. */
export const CONTROL_REPLY_LIMITS: FrameLimits = { header: 64 << 20, payload: 0 };

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
const isText = (value: unknown): value is string => typeof value === 'string' && value.length <= 256;
const isSettings = (value: unknown): value is Record<string, string> => isRecord(value) && Object.values(value).every(isText);

/** Fields of each request: what must be there, and what may. */
const FIELDS = {
  types: {},
  list: {},
  create: { type: 'text', gpu: 'text?', uuid: 'text?', settings: 'settings?' },
  remove: { uuid: 'text' },
  show: { uuid: 'text' },
  set: { uuid: 'text', settings: 'settings' },
} as const satisfies Record<ControlRequest['op'], Record<string, 'text' | 'text?' | 'settings' | 'settings?'>>;

/** @throws MptError INVALID_ARGUMENT for what is no request */
export function decodeControlRequest({ header }: Frame): ControlRequest {
  const refuse = (what: string): MptError => new MptError('INVALID_ARGUMENT', what, { op: 'control' });
  if (!isRecord(header) || !isText(header['op']) || !Object.hasOwn(FIELDS, header['op']))
    throw refuse(`a request's op is one of ${Object.keys(FIELDS).join(', ')}`);
  const op = header['op'] as ControlRequest['op'];
  const fields: Record<string, string> = FIELDS[op];
  const request: Record<string, unknown> = { op };
  for (const [name, kind] of Object.entries(fields)) {
    const value = header[name];
    if (value === undefined && kind.endsWith('?')) continue;
    if (!(kind.startsWith('text') ? isText(value) : isSettings(value))) throw refuse(`${name} of ${op} is missing or has the wrong form`);
    request[name] = value;
  }
  return request as unknown as ControlRequest;
}
