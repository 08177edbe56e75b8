/**
 * Devices of vGPUs on device threads of their own, one for each client. A thread that has loaded what a kind of device needs waits for the next
 * client: that is most of what the client would wait for.
 */
import { setPriority } from 'node:os';
import type { AddressSpace, DeviceHost, GvtSeat, RunningVgpu, SampleSeat } from '../../core/bus/index.js';
import { MptError } from '../../core/errors.js';
import { unschedule } from '../../core/gvt/scheduler/shared-state.js';
import { Errno, type Picture } from '../../core/vfio/device.js';
import type { MonitorChange } from '../../core/vfio/edid-user.js';
import type { IrqSetRequest } from '../../core/vfio/irqs.js';
import { DeviceThread } from '../../device-thread/device-thread.js';
import { SpareThread, type ThreadOptions } from '../../device-thread/spare-thread.js';
import type { MonitorReply, PictureReply, ServeInput, ServeNotice, ServeOutput, ServeRequest } from '../../jobs/serve.js';
import type { AccessReply, AccessRequest } from '../../jobs/serve-access.js';
import { servingModule } from '../../jobs/served-devices.js';
import { libcSyscalls } from '../../native/libc.js';
import { POLL } from '../../native/syscalls.js';
import type { StateOrderRequest } from '../display/protocol.js';
import type { PictureSource } from '../display/socket-server.js';
import { ioError } from '../files.js';
import { passOn } from '../state-order.js';
import type { Log } from './log.js';

/** A device answers without allocating: what V8 would take by default is more than all the rest of it. */
const YOUNG_GENERATION_MB = 2;
const SERVE_JOB = new URL('../../jobs/serve.js', import.meta.url);

/** What an access driver hands to the device. */
export interface ClientAttachment {
  /** Connected socket; stays the access driver's, open until the device has ended. */
  readonly connection: number;
  /** Nice value of the thread. */
  readonly priority: number;
  /** For messages. */
  readonly name: string;
}

export type ServedSeat = GvtSeat | SampleSeat;

export interface ThreadHostOptions {
  readonly log: Log;
  /** Map guest memory even when its file can be shortened, which would end this process. */
  readonly trustClient: boolean;
}

export class ThreadHost implements DeviceHost<ServedSeat> {
  readonly #options: ThreadHostOptions;
  readonly #running = new Set<ThreadVgpu>();
  /** By the module of the device: mdpy and mbochs have one. */
  readonly #spares = new Map<string, SpareThread>();
  #closed = false;

  constructor(options: ThreadHostOptions) {
    this.#options = options;
  }

  /** Device threads that live. */
  get count(): number {
    return this.#running.size;
  }

  /** Threads that wait for a client. */
  get spares(): number {
    return this.#spares.size;
  }

  /** Loads a thread ahead, unless one of the kind waits. */
  expect({ device }: ServedSeat): void {
    const module = servingModule(device);
    if (this.#closed || this.#spares.get(module.href)?.ended === false) return;
    this.#spares.set(module.href, new SpareThread(SERVE_JOB, threadOptions(module)));
  }

  open(seat: ServedSeat, attachment: unknown, counters: SharedArrayBuffer): ThreadVgpu {
    const thread = this.#takeThread(seat);
    const vgpu = new ThreadVgpu(thread, seat, attachment as ClientAttachment, counters, this.#options);
    this.#running.add(vgpu);
    // The next one, when this client no longer waits.
    void vgpu.ready.then(() => this.expect(seat));
    void vgpu.ended.then(() => this.#running.delete(vgpu));
    return vgpu;
  }

  /** Threads that wait end; devices that run stay. */
  async close(): Promise<void> {
    this.#closed = true;
    const spares = [...this.#spares.values()];
    this.#spares.clear();
    await Promise.all(spares.map((spare) => spare.discard()));
  }

  #takeThread({ device }: ServedSeat): SpareThread {
    const module = servingModule(device);
    const spare = this.#spares.get(module.href);
    this.#spares.delete(module.href);
    return spare === undefined || spare.ended ? new SpareThread(SERVE_JOB, threadOptions(module)) : spare;
  }
}

const threadOptions = (module: URL): ThreadOptions => ({ youngGenerationMb: YOUNG_GENERATION_MB, modules: [module] });

export class ThreadVgpu implements RunningVgpu, PictureSource {
  readonly ended: Promise<string>;
  /** The device answers, or never will. */
  readonly ready: Promise<void>;
  readonly #thread: DeviceThread<ServeOutput>;
  readonly #connection: number;
  #priority: number;
  #ready = false;

  constructor(
    spare: SpareThread,
    seat: ServedSeat,
    { connection, priority, name }: ClientAttachment,
    counters: SharedArrayBuffer,
    { log, trustClient }: ThreadHostOptions,
  ) {
    const { device, type } = seat;
    const input: ServeInput = {
      device,
      type,
      place: { connection },
      trustClient,
      counters,
      ...(seat.device === 'gvt'
        ? {
            display: seat.display,
            resources: seat.resources,
            trace: seat.trace,
            traceLimit: seat.traceLimit,
            seat: { gpu: seat.gpu, share: seat.share, schedule: seat.schedule },
          }
        : {}),
    };
    this.#connection = connection;
    this.#priority = priority;
    const thread = new DeviceThread<ServeOutput>(spare, input);
    this.#thread = thread;
    let why = 'stopped';
    let toldReady: () => void = () => {};
    this.ready = new Promise((resolve) => {
      toldReady = resolve;
    });
    thread.on('notice', (value) => {
      const notice = value as ServeNotice;
      if (notice.type === 'ready') {
        this.#ready = true;
        toldReady();
        if (this.#priority !== 0) this.#tryPriority(log, name);
      } else if (notice.type === 'disconnected') why = notice.why;
      else if (notice.type === 'complaint') log.warn('complaint', { vgpu: name, text: notice.text });
    });
    this.ended = thread.result
      .finally(() => {
        leaveSchedule(seat);
        toldReady();
      })
      .then(
        () => why,
        (error: unknown) => {
          if (MptError.is(error, 'STOPPED')) return 'stopped';
          const text = MptError.is(error) ? error.message : String(error);
          log.error('device failed', { vgpu: name, why: text });
          return text;
        },
      );
  }

  /** The client hung up; the thread notices within 0.1 s. */
  abandoned(): boolean {
    const pollfd = new DataView(new ArrayBuffer(8));
    pollfd.setInt32(0, this.#connection, true);
    return libcSyscalls.poll(new Uint8Array(pollfd.buffer), 1, 0) > 0 && (pollfd.getInt16(6, true) & POLL.HUP) !== 0;
  }

  async shutdown(): Promise<void> {
    await this.#thread.stop();
    await this.ended;
  }

  async read(space: AddressSpace, offset: number, bytes: Uint8Array): Promise<Errno> {
    const reply = await this.#access({ op: 'read', space, offset, length: bytes.length });
    if (reply.bytes !== undefined) bytes.set(reply.bytes);
    return reply.status;
  }

  async write(space: AddressSpace, offset: number, bytes: Uint8Array): Promise<Errno> {
    return (await this.#access({ op: 'write', space, offset, bytes })).status;
  }

  async setIrqs(irqs: Omit<IrqSetRequest, 'events'>): Promise<Errno> {
    return (await this.#access({ op: 'irqs', irqs })).status;
  }

  async reset(): Promise<Errno> {
    return (await this.#access({ op: 'reset' })).status;
  }

  /** @throws MptError IO when the system refuses: a smaller value than before needs CAP_SYS_NICE */
  setPriority(priority: number): void {
    this.#priority = priority;
    if (!this.#ready) return;
    try {
      // On Linux a thread has a nice value of its own, by its number.
      setPriority(this.#thread.threadId, priority);
    } catch (error) {
      throw ioError({ ...(error as { info?: object }).info }, 'priority', `the device thread cannot have priority ${priority}`);
    }
  }

  picture(): Promise<Picture | undefined> {
    return this.#ask({ type: 'picture' }) as Promise<PictureReply>;
  }

  async changeMonitor(change: MonitorChange): Promise<void> {
    const error = (await this.#ask({ type: 'monitor', ...change })) as MonitorReply;
    if (error !== undefined) throw MptError.fromJSON(error);
  }

  /** Saves, puts away, brings back or exchanges the vGPU. @throws MptError */
  obey(order: StateOrderRequest): Promise<Uint8Array | undefined> {
    return passOn((request) => this.#ask(request), order);
  }

  #ask(request: ServeRequest): Promise<unknown> {
    return this.#thread.request(request);
  }

  async #access(access: AccessRequest['access']): Promise<AccessReply> {
    try {
      return (await this.#ask({ type: 'access', access })) as AccessReply;
    } catch (error) {
      if (MptError.is(error, 'STOPPED')) return { status: Errno.ENODEV };
      throw error;
    }
  }

  #tryPriority(log: Log, name: string): void {
    try {
      this.setPriority(this.#priority);
    } catch (error) {
      log.refused('priority', error, { vgpu: name });
    }
  }
}

/** A thread that failed may not have done so itself; then the others' engine would look for its vGPU. */
function leaveSchedule(seat: ServedSeat): void {
  if (seat.device === 'gvt') unschedule(seat.schedule, seat.share.id);
}
