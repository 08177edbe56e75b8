/** `mpt types`, `list`, `create`, `remove`, `show` and `set`: asks the daemon and shows what it answers. */
import { MptError } from '../../core/errors.js';
import { controlSocket, defaultRuntime } from '../daemon/config.js';
import { askDaemon } from '../daemon/control-client.js';
import type { ControlRequest, ControlResults } from '../daemon/control-protocol.js';
import type { VgpuDetails } from '../daemon/info.js';
import { EXIT } from '../exit-codes.js';
import { print, printJson, table } from '../terminal.js';

export interface AskOptions {
  /** The daemon's folder. */
  runtime?: string;
  json?: boolean;
}

export interface CreateOptions extends AskOptions {
  uuid?: string;
  gpu?: string;
  set?: string[];
}

const ask = <R extends ControlRequest>({ runtime }: AskOptions, request: R): Promise<ControlResults[R['op']]> =>
  askDaemon(controlSocket(runtime ?? defaultRuntime()), request);

/** `name=value` words. @throws MptError INVALID_ARGUMENT */
export function settingsOf(words: readonly string[]): Record<string, string> {
  const settings: Record<string, string> = {};
  for (const word of words) {
    const at = word.indexOf('=');
    if (at <= 0) throw new MptError('INVALID_ARGUMENT', `'${word}' is no setting`, { op: 'set', hint: 'as weight=4' });
    settings[word.slice(0, at)] = word.slice(at + 1);
  }
  return settings;
}

export async function typesCommand(options: AskOptions): Promise<number> {
  const types = await ask(options, { op: 'types' });
  if (options.json === true) printJson(types);
  else
    print(
      table(
        ['TYPE', 'GPU', 'AVAILABLE', 'INSTANCES', 'DESCRIPTION'],
        types.map(({ name, gpu, available, instances, description }) => [
          name,
          gpu,
          available,
          instances,
          description.replaceAll('\n', ', '),
        ]),
      ),
    );
  return EXIT.OK;
}

export async function listCommand(options: AskOptions): Promise<number> {
  const vgpus = await ask(options, { op: 'list' });
  if (options.json === true) printJson(vgpus);
  else
    print(
      table(
        ['UUID', 'TYPE', 'GPU', 'VM', 'STATE', 'WEIGHT', 'PRIORITY', 'GROUP'],
        vgpus.map((vgpu) => [
          vgpu.uuid,
          vgpu.type,
          vgpu.gpu,
          vgpu.vm ?? '-',
          vgpu.inUse ? 'in use' : vgpu.online ? 'online' : 'offline',
          vgpu.weight,
          vgpu.priority,
          vgpu.group === '' ? '-' : vgpu.group,
        ]),
      ),
    );
  return EXIT.OK;
}

export async function createCommand(type: string, options: CreateOptions): Promise<number> {
  const { uuid, gpu, set = [] } = options;
  const made = await ask(options, {
    op: 'create',
    type,
    settings: settingsOf(set),
    ...(uuid === undefined ? {} : { uuid }),
    ...(gpu === undefined ? {} : { gpu }),
  });
  if (options.json === true) printJson(made);
  else print(made.uuid);
  return EXIT.OK;
}

export async function removeCommand(uuid: string, options: AskOptions): Promise<number> {
  const removed = await ask(options, { op: 'remove', uuid });
  if (options.json === true) printJson(removed);
  return EXIT.OK;
}

export async function showCommand(uuid: string, options: AskOptions): Promise<number> {
  return showDetails(await ask(options, { op: 'show', uuid }), options);
}

export async function setCommand(uuid: string, words: readonly string[], options: AskOptions): Promise<number> {
  return showDetails(await ask(options, { op: 'set', uuid, settings: settingsOf(words) }), options);
}

function showDetails(vgpu: VgpuDetails, { json }: AskOptions): number {
  if (json === true) {
    printJson(vgpu);
    return EXIT.OK;
  }
  const { resources, statistics, ...rest } = vgpu;
  for (const [title, values] of [
    ['', rest],
    ['resources', resources],
    ['statistics', statistics],
  ] as const)
    for (const [name, value] of Object.entries(values)) print(`${title === '' ? '' : `${title}.`}${name}: ${value === '' ? '-' : value}`);
  return EXIT.OK;
}
