/** `mpt serve`: a device on a vfio-user socket for QEMU, until a signal. */
import { resolve } from 'node:path';
import { MptError } from '../../core/errors.js';
import { MIB } from '../../core/gvt/device-info.js';
import type { Connector } from '../../core/gvt/display/connector.js';
import type { ExplicitResources } from '../../core/gvt/explicit-resources.js';
import { DeviceThread } from '../../device-thread/device-thread.js';
import type {
  MonitorReply,
  MonitorRequest,
  PictureReply,
  PictureRequest,
  ServedDeviceName,
  ServeInput,
  ServeNotice,
  ServeOutput,
} from '../../jobs/serve.js';
import { displaySocketPath } from '../display/protocol.js';
import { serveDisplay } from '../display/socket-server.js';
import { EXIT } from '../exit-codes.js';
import { outputsOf } from '../outputs.js';
import type { PrivateServer } from '../private-server.js';
import { readStateFile } from '../state-file.js';
import { passOn } from '../state-order.js';
import { interruptible, print, printJson } from '../terminal.js';

export interface ServeOptions {
  device: ServedDeviceName;
  type?: string;
  socket: string;
  /** Of `gvt`: MiB. */
  aperture?: number;
  hidden?: number;
  fences?: number;
  resolution?: { width: number; height: number };
  trustClient?: boolean;
  record?: string;
  trace?: string;
  /** Bytes. */
  recordLimit?: number;
  traceLimit?: number;
  /** Commander's `--no-display` makes it false. */
  display?: boolean;
  connector?: Connector;
  /** File of a saved vGPU. */
  restore?: string;
  json?: boolean;
}

/** Arguments for a QEMU of version 10.1 or later; the memory must be a memfd that is shared, or the device cannot reach it. */
export const qemuArguments = (socket: string): string[] => [
  '-machine',
  'q35,memory-backend=m0',
  '-object',
  'memory-backend-memfd,id=m0,size=512M,share=on',
  '-m',
  '512M',
  '-device',
  JSON.stringify({ driver: 'vfio-user-pci', socket: { path: socket, type: 'unix' } }),
];

/** A device answers without allocating: what V8 would take by default is more than all the rest of it. */
export const YOUNG_GENERATION_MB = 2;

export async function serveCommand(options: ServeOptions): Promise<number> {
  const socket = resolve(options.socket);
  const json = options.json === true;
  const input: ServeInput = {
    device: options.device,
    ...(options.type === undefined ? {} : { type: options.type }),
    place: socket,
    resources: resourcesOf(options),
    trustClient: options.trustClient === true,
    ...outputsOf(options),
    display: options.display !== false,
    ...connectorOf(options),
    ...(await savedVgpu(options)),
  };
  if (options.trace !== undefined && options.device !== 'gvt')
    throw new MptError('INVALID_ARGUMENT', `--trace is for --device gvt; ${options.device} has no engines`, { op: 'serve' });
  const thread = new DeviceThread<ServeOutput>(new URL('../../jobs/serve.js', import.meta.url), input, {
    youngGenerationMb: YOUNG_GENERATION_MB,
  });
  let stopping = false;
  const stop = (): void => {
    stopping = true;
    void thread.stop();
  };
  let display: Promise<PrivateServer> | undefined;
  /** Ready is told when both sockets are there. */
  const ready = async (): Promise<void> => {
    display = serveDisplay(displaySocketPath(socket), {
      picture: () => thread.request({ type: 'picture' } satisfies PictureRequest) as Promise<PictureReply>,
      changeMonitor: async (change) => {
        const error = (await thread.request({ type: 'monitor', ...change } satisfies MonitorRequest)) as MonitorReply;
        if (error !== undefined) throw MptError.fromJSON(error);
      },
      obey: (order) => passOn((request) => thread.request(request), order),
    });
    await display;
  };
  let failure: unknown;
  thread.on('notice', async (value) => {
    const notice = value as ServeNotice;
    if (notice.type === 'ready') {
      try {
        await ready();
      } catch (error) {
        failure = error;
        stop();
        return;
      }
    }
    if (json) printJson(notice.type === 'ready' ? { ...notice, socket, qemu: qemuArguments(socket) } : notice);
    else tell(notice, socket);
  });
  try {
    await interruptible(stop, () => thread.result);
  } catch (error) {
    if (!stopping) throw error;
  } finally {
    // The device may have ended while its display's socket was being made.
    await display?.then(
      (server) => server.close(),
      () => undefined,
    );
  }
  if (failure !== undefined) throw failure;
  if (!json) print('stopped');
  return EXIT.OK;
}

/** @throws MptError INVALID_ARGUMENT where there is no monitor that could be connected by it */
function connectorOf({ device, connector, display }: ServeOptions): { readonly connector?: Connector } {
  if (connector === undefined) return {};
  if (device === 'gvt' && display !== false) return { connector };
  throw new MptError('INVALID_ARGUMENT', `--connector ${connector} needs a vGPU with a display`, {
    op: 'serve',
    hint: device === 'gvt' ? 'leave --no-display out' : `${device} has no connector`,
  });
}

/** @throws MptError INVALID_ARGUMENT: the display devices have types only */
function resourcesOf({ device, aperture, hidden, fences, resolution }: ServeOptions): ExplicitResources {
  const resources = {
    ...(aperture === undefined ? {} : { aperture: aperture * MIB }),
    ...(hidden === undefined ? {} : { hidden: hidden * MIB }),
    ...(fences === undefined ? {} : { fences }),
    ...(resolution === undefined ? {} : { resolution }),
  };
  const [given] = Object.keys(resources);
  if (device === 'gvt' || given === undefined) return resources;
  throw new MptError('INVALID_ARGUMENT', `--${given} is for --device gvt; ${device} has types only`, { op: 'serve', hint: 'set --type' });
}

/** @throws MptError INVALID_ARGUMENT beside what the saved vGPU says itself; IO, BAD_STATE */
async function savedVgpu(options: ServeOptions): Promise<Pick<ServeInput, 'state'>> {
  const { device, restore } = options;
  if (restore === undefined) return {};
  const said = saidBySaved(options);
  if (device !== 'gvt')
    throw new MptError('INVALID_ARGUMENT', '--restore is for --device gvt', {
      op: 'serve',
      hint: 'the display devices have no state to restore',
    });
  if (said !== undefined)
    throw new MptError('INVALID_ARGUMENT', `--${said} is what the saved vGPU says`, { op: 'serve', hint: `leave --${said} out` });
  return { state: (await readStateFile(restore)).bytes };
}

/** What was asked for that stands in the saved vGPU. */
function saidBySaved(options: ServeOptions): string | undefined {
  const { type, display, connector } = options;
  const [resource] = Object.keys(resourcesOf(options));
  const given = { type, 'no-display': display === false || undefined, connector };
  return resource ?? Object.entries(given).find(([, value]) => value !== undefined)?.[0];
}

function tell(notice: ServeNotice, socket: string): void {
  switch (notice.type) {
    case 'ready':
      print(`serving ${notice.name} on ${socket}`);
      print('QEMU 10.1 or later takes it with these arguments (the size is yours to choose):');
      for (const argument of pairs(qemuArguments(socket))) print(`  ${argument}`);
      print(`Its display: mpt display ${quoted(socket)} --picture FILE, or --listen PORT`);
      print('Ctrl-C ends it.');
      break;
    case 'connected':
      print(`client ${notice.client} connected`);
      break;
    case 'disconnected':
      print(`client ${notice.client} gone: ${notice.why}`);
      break;
    case 'complaint':
      process.stderr.write(`mpt: ${notice.text}\n`);
      break;
  }
}

/** `-option value` a line, quoted for a shell where it is needed. */
function* pairs(words: readonly string[]): Generator<string> {
  for (let i = 0; i < words.length; i += 2) yield `${words[i]} ${quoted(words[i + 1] as string)}`;
}

const quoted = (word: string): string => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
