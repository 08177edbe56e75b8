/**
 * A device on a vfio-user socket, on the device thread, until it is stopped; or for one client, until that goes.
 *
 * What a thread loads it holds as long as it lives, most of what a device takes: so only what this device needs is loaded.
 */
import type { GvtSeat } from '../core/bus/index.js';
import { MptError } from '../core/errors.js';
import type { Connector } from '../core/gvt/display/connector.js';
import { checkedEdid } from '../core/gvt/display/edid.js';
import type { ExplicitResources } from '../core/gvt/explicit-resources.js';
import type { Picture, PixelMemory, VfioDevice } from '../core/vfio/device.js';
import { changeMonitor, type MonitorChange } from '../core/vfio/edid-user.js';
import type { Job, JobContext } from '../device-thread/protocol.js';
import type { RecordOptions } from '../recording/index.js';
import type { ServerPlace } from '../vfio/index.js';
import { Counters } from './counters.js';
import { type AccessRequest, answerAccess } from './serve-access.js';
import { type ServedDeviceName, servingModule } from './served-devices.js';
import type { StateOrder } from './served-vgpu.js';

export type { ServedDeviceName };

export interface ServeInput {
  readonly device: ServedDeviceName;
  /** Type name; each device has a default. */
  readonly type?: string;
  /** Of `gvt`: what differs from the type. */
  readonly resources?: ExplicitResources;
  readonly place: ServerPlace;
  /** Map guest memory even when its file can be shortened, which would end this process. */
  readonly trustClient: boolean;
  /** File to record to. */
  readonly record?: string;
  /** Bytes that it has at most; a default where it is absent. */
  readonly recordLimit?: number | undefined;
  /** Of `gvt`: file for a trace in Chrome's trace-event format. */
  readonly trace?: string | undefined;
  readonly traceLimit?: number | undefined;
  /** Of `gvt`: false is a vGPU whose display is fused off. Default true. */
  readonly display?: boolean;
  /** Of `gvt`: what the monitor is connected by. Default HDMI. */
  readonly connector?: Connector;
  /** Of `gvt`: a vGPU whose resources somebody else divides. */
  readonly seat?: Pick<GvtSeat, 'gpu' | 'share' | 'schedule'>;
  /** What the device counts is added there, in the order of the bus's names. */
  readonly counters?: SharedArrayBuffer;
  /** Of `gvt`: a saved vGPU, of which type, resources and display are then. */
  readonly state?: Uint8Array;
}

export interface ServeOutput {
  readonly clients: number;
}

/** What the job tells while it runs. */
export type ServeNotice =
  | { readonly type: 'ready'; readonly name: string }
  | { readonly type: 'connected'; readonly client: number }
  | { readonly type: 'disconnected'; readonly client: number; readonly why: string }
  | { readonly type: 'complaint'; readonly text: string };

/**
 * What can be asked of the job while it runs; the answer is the picture, or undefined while the display is off. Its pixels are written again for the
 * next request.
 */
export interface PictureRequest {
  readonly type: 'picture';
}
export type PictureReply = Picture | undefined;

/** Plugs the monitor in or out, or another one in. */
export interface MonitorRequest extends MonitorChange {
  readonly type: 'monitor';
}
/** What it failed with. */
export type MonitorReply = ReturnType<MptError['toJSON']> | undefined;

/** Saves, puts away, brings back or exchanges the vGPU. */
export interface StateRequest {
  readonly type: 'state';
  readonly order: StateOrder;
}
/** The state where one was asked for, or what it failed with. */
export type StateReply = { readonly state?: Uint8Array | undefined } | { readonly error: ReturnType<MptError['toJSON']> };

/** What the main thread may ask; each has its reply. */
export type ServeRequest = PictureRequest | MonitorRequest | AccessRequest | StateRequest;

/** What serving one device consists of. */
export interface Served {
  readonly device: VfioDevice;
  /** The one client went, and there will be no other. */
  readonly ended: boolean;
  /** Counts that only grow, in the order of the bus's names. */
  counts(): readonly number[];
  /** It was put away: nothing of it can be seen or changed. */
  readonly away?: boolean;
  /** Waits for the next access and answers it; returns after about 100 ms at the latest. */
  step(): void;
  /** Absent: the device has no state that could be saved. @throws MptError */
  obey?(order: StateOrder): Uint8Array | undefined;
  close(): void;
}

/** The recorder's module, where there is something to record. */
export type Recording = typeof import('../recording/index.js') | undefined;

/** How a device of a kind is put on its socket. */
export type Serve = (input: ServeInput, hooks: ServeHooks, context: JobContext, recording: Recording) => Served;

export interface ServeHooks {
  readonly onConnect: () => void;
  readonly onDisconnect: (why: string) => void;
  readonly onComplaint: (text: string) => void;
}

export const job: Job<ServeInput, ServeOutput> = async (input, context) => {
  const { serve } = (await import(servingModule(input.device).href)) as { serve: Serve };
  const recording = input.record === undefined ? undefined : await import('../recording/index.js');
  if (context.stopped()) return { clients: 0 };
  let clients = 0;
  const notice = (value: ServeNotice): void => context.notice(value);
  const hooks: ServeHooks = {
    onConnect: () => notice({ type: 'connected', client: ++clients }),
    onDisconnect: (why) => notice({ type: 'disconnected', client: clients, why }),
    onComplaint: (text) => notice({ type: 'complaint', text }),
  };
  const served = serve(input, hooks, context, recording);
  const pixels = sharedPixels();
  const counters = input.counters === undefined ? undefined : new Counters(input.counters, () => served.counts());
  try {
    notice({ type: 'ready', name: served.device.name });
    while (!context.stopped() && !served.ended) {
      served.step();
      answerRequest(served, context, pixels, counters);
      counters?.publish();
    }
    return { clients };
  } finally {
    counters?.publish(true);
    served.close();
  }
};

/** What a recording that ends early tells. */
export const recordOf = ({ record, recordLimit: limit }: ServeInput, { onComplaint }: ServeHooks): RecordOptions | undefined =>
  record === undefined
    ? undefined
    : { path: record, limit, onFailure: ({ message }) => onComplaint(`the recording has ended: ${message}`) };

/** One buffer that both threads see, for as long as the size stays: the main thread is done with a picture when it asks for the next. */
function sharedPixels(): PixelMemory {
  let pixels = new Uint8Array(new SharedArrayBuffer(0));
  return (bytes) => {
    if (pixels.length !== bytes) pixels = new Uint8Array(new SharedArrayBuffer(bytes));
    return pixels;
  };
}

function answerRequest(served: Served, context: JobContext, pixels: PixelMemory, counters: Counters | undefined): void {
  const waiting = context.takeRequest();
  if (waiting === undefined) return;
  const request = waiting.request as ServeRequest;
  const { device } = served;
  if (request.type === 'picture') waiting.reply(device.picture(pixels) satisfies PictureReply);
  else if (request.type === 'monitor') waiting.reply(changed(served, request));
  else if (request.type === 'access') waiting.reply(answerAccess(device, request, counters));
  else if (request.type === 'state') waiting.reply(obeyed(served, request.order));
  else throw new MptError('INTERNAL', 'a request of the main thread is not known', { op: 'serve' });
}

function changed({ device, away }: Served, change: MonitorChange): MonitorReply {
  try {
    if (away === true)
      throw new MptError('BUSY', `${device.name} is put away`, { op: 'set_edid', hint: 'mpt state SOCKET --resume brings it back' });
    changeMonitor(device, change.edid === undefined ? change : { ...change, edid: checkedEdid(change.edid) });
    return undefined;
  } catch (error) {
    if (MptError.is(error)) return error.toJSON();
    throw error;
  }
}

function obeyed(served: Served, order: StateOrder): StateReply {
  try {
    if (served.obey === undefined)
      throw new MptError('UNSUPPORTED', `${served.device.name} has no state that could be saved`, {
        op: 'save_vgpu',
        hint: 'a vGPU has one',
      });
    return { state: served.obey(order) };
  } catch (error) {
    if (MptError.is(error)) return { error: error.toJSON() };
    throw error;
  }
}
