/** The configuration document: read, checked against the schema that ships in the package, filled with defaults. */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import type { ErrorObject } from 'ajv';
import { MptError } from '../core/errors.js';
import { nearestName } from '../core/nearest-name.js';
import { ioError } from './files.js';

export interface Config {
  readonly backend?: string;
  readonly fallback?: string;
  readonly options?: Record<string, unknown>;
  readonly domain?: string;
  readonly ramMiB?: number;
  readonly type?: string;
  readonly picture?: string;
}

/** A configuration has a few hundred bytes; more than this is another kind of file. */
const MAX_BYTES = 1 << 20;
const SCHEMA_URL = new URL('./config.schema.json', import.meta.url);

export const configSchema = (): Record<string, unknown> => JSON.parse(readFileSync(SCHEMA_URL, 'utf8'));

/** @throws MptError IO when the file cannot be read, BAD_CONFIG when it breaks a rule */
export async function readConfig(path: string): Promise<Config> {
  const document = readJson(path);
  await checkConfig(document, path);
  return document as Config;
}

/** A JSON document. @param maxBytes it may have @throws MptError IO, BAD_CONFIG */
export function readJson(path: string, maxBytes = MAX_BYTES): unknown {
  let text: string;
  try {
    const bytes = readUpTo(path, maxBytes + 1);
    if (bytes.length > maxBytes)
      throw new MptError('BAD_CONFIG', `${path} is too large for a configuration`, { op: 'config', limit: maxBytes });
    text = bytes.toString('utf8').replace(/^\uFEFF/, '');
  } catch (error) {
    if (MptError.is(error)) throw error;
    throw ioError(error, 'config', `${path} cannot be read`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new MptError('BAD_CONFIG', `${path} is not JSON: ${(error as Error).message.split('\n', 1)[0]}`, { op: 'config' });
  }
}

/** The first `limit` bytes: a device or a pipe has no size to ask for. */
export function readUpTo(path: string, limit: number): Buffer {
  const fd = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(limit);
    let length = 0;
    for (let got = -1; got !== 0 && length < limit; length += got) got = readSync(fd, bytes, length, limit - length, null);
    return bytes.subarray(0, length);
  } finally {
    closeSync(fd);
  }
}

/** @throws MptError BAD_CONFIG that names path, rule, value and the nearest valid name of the first broken rule */
export async function checkConfig(document: unknown, where: string, schema = configSchema()): Promise<void> {
  // Compiling a schema takes 30 ms: only when there is a document to check.
  const { default: ajv } = await import('ajv');
  const validate = new ajv.default({ allErrors: true, strict: true, strictRequired: false, allowUnionTypes: true, verbose: true }).compile(
    schema,
  );
  if (validate(document)) return;
  const [first] = (validate.errors ?? []).filter((error) => error.keyword !== 'if');
  const more = (validate.errors ?? []).filter((error) => error.keyword !== 'if').length - 1;
  throw new MptError('BAD_CONFIG', `${where}: ${describe(first as ErrorObject)}${more > 0 ? ` (and ${more} more)` : ''}`, { op: 'config' });
}

/** A value in a message: one line, at most 80 characters, whatever was written. */
function shown(value: unknown): string {
  let text: string;
  try {
    text = JSON.stringify(value) ?? String(value);
  } catch {
    text = 'nested too deep to show';
  }
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}

function describe(error: ErrorObject): string {
  const path = error.instancePath === '' ? '/' : error.instancePath;
  switch (error.keyword) {
    case 'additionalProperties': {
      const name = String(error.params['additionalProperty']).slice(0, 80);
      const known = Object.keys((error.parentSchema?.['properties'] as object | undefined) ?? {});
      return `${path} has no property '${name}'${suggest(name, known)}`;
    }
    case 'enum': {
      const allowed = (error.params['allowedValues'] as unknown[]).map(String);
      return `${path} is ${shown(error.data)}, allowed are ${allowed.join(', ')}${suggest(typeof error.data === 'string' ? error.data.slice(0, 80) : '', allowed)}`;
    }
    case 'maxProperties':
      return `${path} is ${shown(error.data)}, but options need a backend by name`;
    default:
      return `${path} is ${shown(error.data)}, ${error.message}`;
  }
}

const suggest = (name: string, known: readonly string[]): string => {
  const nearest = nearestName(name, known);
  return nearest === undefined ? '' : `; did you mean ${nearest}?`;
};
