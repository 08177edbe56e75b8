/** `mpt new-backend`: a folder with a small complete backend to start a port from, and its test. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MptError } from '../../core/errors.js';
import { EXIT } from '../exit-codes.js';
import { ioError } from '../files.js';
import { print, printJson } from '../terminal.js';

export interface NewBackendOptions {
  dir?: string;
  json?: boolean;
}

const OP = 'new_backend';
const TEMPLATE = new URL('../../../../templates/backend/', import.meta.url);
/** Words that name something else already, or that no variable may have. */
const RESERVED = /^(auto|test|default|new|class|function|import|export|switch|delete|void|null|true|false|this|with|yield|let|static)$/;

/** `my-hv` as `myHv`. */
const camel = (name: string): string => name.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
const pascal = (name: string): string => camel(name).replace(/^./, (letter) => letter.toUpperCase());

/** The template with the backend's own name: as text, as a class's beginning, as a variable. */
export const renamed = (text: string, name: string): string =>
  text
    .replace(/'scaffold'|(?<=^(?:\/\*\*| \*) )scaffold(?=:)/gm, (found) => (found.startsWith("'") ? `'${name}'` : name))
    .replaceAll('Scaffold', pascal(name))
    .replaceAll('scaffold', camel(name));

/** @throws MptError INVALID_ARGUMENT for a bad name or a folder that is not empty, IO */
export function newBackendCommand(name: string, { dir = name, json }: NewBackendOptions): number {
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name) || name.length > 40 || RESERVED.test(name))
    throw new MptError('INVALID_ARGUMENT', `'${name}' is no name for a backend`, { op: OP, hint: 'use lower-case words, such as my-hv' });
  const files = write(name, dir);
  if (json === true) printJson({ name, dir, files });
  else
    print(
      `${dir}: ${files.join(', ')}\n\nnode --test ${dir}   runs the conformance suite on it; every comment that says "Replace" is a step of the port,\n` +
        'and docs/porting.md of this package has their order.',
    );
  return EXIT.OK;
}

function write(name: string, dir: string): string[] {
  try {
    const files = readdirSync(TEMPLATE).sort();
    mkdirSync(dir, { recursive: true });
    if (readdirSync(dir).length > 0)
      throw new MptError('INVALID_ARGUMENT', `${dir} is not empty`, { op: OP, hint: 'name another with --dir' });
    for (const file of files) {
      const text = readFileSync(new URL(file, TEMPLATE), 'utf8');
      writeFileSync(join(dir, file), renamed(text, name), { flag: 'wx' });
    }
    return files;
  } catch (error) {
    if (MptError.is(error)) throw error;
    throw ioError(error, OP, `${dir} cannot be written`);
  }
}
