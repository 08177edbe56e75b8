/** `mpt state`: saves the vGPU of a running server, puts it away and brings it back, or exchanges it for a saved one. */
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { MptError } from '../../core/errors.js';
import { parseDocument } from '../../core/gvt/state/document.js';
import { displaySocketPath } from '../display/protocol.js';
import { orderState } from '../display/socket-client.js';
import { EXIT } from '../exit-codes.js';
import { checkWritable, writeWhole } from '../files.js';
import { readStateFile } from '../state-file.js';
import { Progress, print, printJson } from '../terminal.js';

export interface StateOptions {
  save?: string;
  pause?: boolean;
  resume?: boolean;
  restore?: string;
  json?: boolean;
}

/** @param socket of the server: what `mpt serve --socket` was given */
export async function stateCommand(socket: string, options: StateOptions): Promise<number> {
  const { save, pause = false, resume, restore, json = false } = options;
  const path = displaySocketPath(resolve(socket));
  const given = [save, resume, restore].filter((option) => option !== undefined);
  if (given.length !== 1) throw usage('exactly one of --save, --restore and --resume is needed');
  if (pause && save === undefined) throw usage('--pause goes with --save: what is put away is saved first');
  const progress = new Progress();
  try {
    if (save !== undefined) return await saveTo(path, save, pause, json, progress);
    if (restore !== undefined) return await restoreFrom(path, restore, json, progress);
    await orderState(path, { does: 'resume' });
    return tell(json, { resumed: true }, 'the vGPU goes on');
  } finally {
    progress.clear();
  }
}

const usage = (what: string): MptError => new MptError('INVALID_ARGUMENT', what, { op: 'state', hint: 'see mpt state --help' });

function tell(json: boolean, document: unknown, line: string): number {
  if (json) printJson(document);
  else print(line);
  return EXIT.OK;
}

/** A vGPU that was put away and cannot be written goes on: nothing is lost. */
async function saveTo(path: string, file: string, pause: boolean, json: boolean, progress: Progress): Promise<number> {
  checkWritable(file, 'state');
  progress.show('saving…');
  const state = await orderState(path, { does: pause ? 'pause' : 'save' });
  try {
    progress.show(`writing ${state.length} bytes…`);
    const { type } = parseDocument(state).header.vgpu;
    writeWhole(file, state, 'state');
    const sha256 = createHash('sha256').update(state).digest('hex');
    progress.clear();
    const what = `saved ${file}: ${type}, ${state.length} bytes, sha256 ${sha256}`;
    const document = { saved: { path: resolve(file), type, bytes: state.length, sha256 }, paused: pause };
    return tell(
      json,
      document,
      pause
        ? `${what}\nthe vGPU is put away and its guest waits for --resume or --restore FILE; QEMU waits 5 s, unless its guest is stopped`
        : what,
    );
  } catch (error) {
    if (pause) await orderState(path, { does: 'resume' });
    throw error;
  }
}

async function restoreFrom(path: string, file: string, json: boolean, progress: Progress): Promise<number> {
  const { bytes, header } = await readStateFile(file);
  progress.show(`restoring ${header.vgpu.type}…`);
  await orderState(path, { does: 'restore', state: bytes });
  progress.clear();
  return tell(json, { restored: { path: resolve(file), type: header.vgpu.type } }, `restored ${header.vgpu.type} from ${file}`);
}
