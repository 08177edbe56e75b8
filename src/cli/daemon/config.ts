/** The daemon's configuration: a JSON document, checked against the schema that ships in the package, filled with defaults. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { MptError } from '../../core/errors.js';
import type { SocketOwner } from '../../vfio/index.js';
import { checkConfig, readJson } from '../config.js';
import type { LogOptions } from './log.js';

export type GpuDriverName = 'i915' | 'mdpy' | 'mbochs';

export interface GpuConfig {
  readonly name: string;
  readonly driver: GpuDriverName;
  readonly hotUnplug?: boolean;
  readonly requiresGroup?: boolean;
  readonly apertureMiB?: number;
  readonly ggttMiB?: number;
  readonly fences?: number;
  readonly instances?: number;
  readonly memoryMiB?: number;
}

export interface VgpuConfig {
  readonly type: string;
  readonly gpu?: string;
  readonly uuid: string;
  readonly set?: Readonly<Record<string, string | number | boolean>>;
}

interface Document {
  readonly runtime?: string;
  readonly sockets?: { readonly folder?: string; readonly mode?: string; readonly uid?: number; readonly gid?: number };
  readonly mount?: string;
  readonly tree?: { readonly uid?: number; readonly gid?: number; readonly groupWrites?: boolean };
  readonly metrics?: { readonly socket?: string; readonly port?: number };
  readonly log?: Partial<Pick<LogOptions, 'format' | 'level'>>;
  readonly backend?: { readonly trustClient?: boolean };
  readonly gpus?: readonly GpuConfig[];
  readonly vgpus?: readonly VgpuConfig[];
}

export interface TreeOwner {
  readonly uid: number;
  readonly gid: number;
  readonly groupWrites: boolean;
}

export interface DaemonConfig {
  readonly runtime: string;
  readonly sockets: SocketOwner & { readonly folder: string };
  readonly mount: string | undefined;
  readonly tree: TreeOwner;
  readonly metrics: { readonly socket: string } | { readonly port: number } | undefined;
  readonly log: Pick<LogOptions, 'format' | 'level'>;
  readonly trustClient: boolean;
  readonly gpus: readonly GpuConfig[];
  readonly vgpus: readonly VgpuConfig[];
}

/** What a command line can say too. */
export interface DaemonOverrides {
  readonly runtime?: string;
  readonly mount?: string;
  readonly logFormat?: 'text' | 'json';
}

/** One of each, as a host with the three modules loaded has them. */
export const DEFAULT_GPUS: readonly GpuConfig[] = [
  { name: '0000:00:02.0', driver: 'i915' },
  { name: 'mdpy', driver: 'mdpy' },
  { name: 'mbochs', driver: 'mbochs' },
];

/** Options that only one driver has. */
const OWN_OPTIONS: Readonly<Record<GpuDriverName, readonly (keyof GpuConfig)[]>> = {
  i915: ['apertureMiB', 'ggttMiB', 'fences'],
  mdpy: ['instances'],
  mbochs: ['memoryMiB'],
};

const SCHEMA_URL = new URL('./daemon.schema.json', import.meta.url);
export const daemonSchema = (): Record<string, unknown> => JSON.parse(readFileSync(SCHEMA_URL, 'utf8'));

const uid = (): number => process.getuid?.() ?? 0;
const gid = (): number => process.getgid?.() ?? 0;

/** Where a daemon of this user keeps its sockets, if nobody says otherwise. @throws MptError BAD_CONFIG when there is no such place */
export function defaultRuntime(): string {
  const { MPT_RUNTIME: own, XDG_RUNTIME_DIR: folder } = process.env;
  if (own !== undefined && own !== '') return resolve(own);
  if (uid() === 0) return '/run/mpt';
  if (folder !== undefined && folder !== '') return join(folder, 'mpt');
  throw new MptError('BAD_CONFIG', 'there is no folder for the sockets', {
    op: 'daemon',
    hint: 'set runtime, MPT_RUNTIME or XDG_RUNTIME_DIR',
  });
}

export const controlSocket = (runtime: string): string => join(runtime, 'control.sock');

/** @throws MptError IO, BAD_CONFIG */
export async function readDaemonConfig(path: string | undefined, overrides: DaemonOverrides): Promise<DaemonConfig> {
  const document = path === undefined ? {} : readJson(path);
  if (path !== undefined) await checkConfig(document, path, daemonSchema());
  return withDefaults(document as Document, overrides, path ?? 'the configuration');
}

function withDefaults(document: Document, overrides: DaemonOverrides, where: string): DaemonConfig {
  const { sockets = {}, tree = {}, metrics, log = {}, gpus = DEFAULT_GPUS, vgpus = [], backend = {} } = document;
  for (const [i, gpu] of gpus.entries())
    for (const [driver, options] of Object.entries(OWN_OPTIONS))
      for (const option of options)
        if (driver !== gpu.driver && gpu[option] !== undefined)
          throw new MptError('BAD_CONFIG', `${where}: /gpus/${i}/${option} is an option of ${driver}, not of ${gpu.driver}`, {
            op: 'config',
          });
  const runtime = resolve(overrides.runtime ?? document.runtime ?? defaultRuntime());
  const mount = overrides.mount ?? document.mount;
  return {
    runtime,
    sockets: {
      folder: resolve(sockets.folder ?? runtime),
      mode: Number.parseInt(sockets.mode ?? '600', 8),
      ...(sockets.uid === undefined ? {} : { uid: sockets.uid }),
      ...(sockets.gid === undefined ? {} : { gid: sockets.gid }),
    },
    mount: mount === undefined ? undefined : resolve(mount),
    tree: { uid: tree.uid ?? uid(), gid: tree.gid ?? gid(), groupWrites: tree.groupWrites === true },
    metrics:
      metrics?.socket !== undefined
        ? { socket: resolve(metrics.socket) }
        : metrics?.port !== undefined
          ? { port: metrics.port }
          : undefined,
    log: { format: overrides.logFormat ?? log.format ?? 'text', level: log.level ?? 'info' },
    trustClient: backend.trustClient === true,
    gpus,
    vgpus,
  };
}
