/** Files of saved vGPUs: read and checked before they are sent anywhere. */
import { readFileSync } from 'node:fs';
import { MptError } from '../core/errors.js';
import { DOCUMENT_BYTES_MAX, parseDocument } from '../core/gvt/state/document.js';
import type { StateHeader } from '../core/gvt/state/header.js';
import { checkConfig, readUpTo } from './config.js';
import { ioError } from './files.js';

const SCHEMA_URL = new URL('./vgpu-state.schema.json', import.meta.url);

export interface SavedFile {
  readonly bytes: Uint8Array;
  readonly header: StateHeader;
}

/** @throws MptError IO when the file cannot be read, BAD_STATE when it is no saved vGPU, with what is wrong */
export async function readStateFile(path: string): Promise<SavedFile> {
  let bytes: Uint8Array;
  try {
    bytes = Uint8Array.from(readUpTo(path, DOCUMENT_BYTES_MAX + 1));
  } catch (error) {
    throw ioError(error, 'state', `${path} cannot be read`);
  }
  const { header } = inFile(path, () => parseDocument(bytes));
  try {
    await checkConfig(header, path, JSON.parse(readFileSync(SCHEMA_URL, 'utf8')));
  } catch (error) {
    if (!MptError.is(error, 'BAD_CONFIG')) throw error;
    throw new MptError('BAD_STATE', `the header of ${error.text}`, { op: 'state' });
  }
  return { bytes, header };
}

/** Names the file in what is wrong with it. */
function inFile<T>(path: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!MptError.is(error)) throw error;
    const { size, limit } = error;
    throw new MptError(error.code, `${path}: ${error.text}`, {
      op: 'state',
      ...(size === undefined ? {} : { size }),
      ...(limit === undefined ? {} : { limit }),
    });
  }
}
