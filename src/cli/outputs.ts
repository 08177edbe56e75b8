/** Files that a device writes while it runs: a recording, a trace. */
import { resolve } from 'node:path';
import { MptError } from '../core/errors.js';
import { checkWritable } from './files.js';

export interface OutputOptions {
  readonly record?: string;
  readonly trace?: string;
  /** Bytes. */
  readonly recordLimit?: number;
  readonly traceLimit?: number;
}

/**
 * As the device thread takes them.
 * @throws MptError IO when a file cannot be written; INVALID_ARGUMENT for a limit of none
 */
export function outputsOf({ record, trace, recordLimit, traceLimit }: OutputOptions): OutputOptions {
  return { ...output('record', record, recordLimit), ...output('trace', trace, traceLimit) };
}

function output(name: 'record' | 'trace', path: string | undefined, limit: number | undefined): OutputOptions {
  if (path !== undefined) checkWritable(path, name);
  else if (limit !== undefined)
    throw new MptError('INVALID_ARGUMENT', `--${name}-limit is for --${name}`, { op: name, hint: `give --${name} FILE, or leave it out` });
  return { ...(path === undefined ? {} : { [name]: resolve(path) }), ...(limit === undefined ? {} : { [`${name}Limit`]: limit }) };
}
