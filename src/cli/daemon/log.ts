/** The daemon's log: one line an event on stderr, for people or as JSON. */
import type { Writable } from 'node:stream';
import { MptError } from '../../core/errors.js';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';
const LEVELS: readonly LogLevel[] = ['error', 'warn', 'info', 'debug'];

export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface LogOptions {
  readonly format: 'text' | 'json';
  /** The least that is written. */
  readonly level: LogLevel;
  readonly write?: (line: string) => void;
}

/** Bytes that may wait for whoever reads the log. */
const WAITING_MAX = 1 << 20;

/** Writes lines to a stream; who does not read it loses lines, and is told how many by the line that `told` makes. */
export function lineWriter(stream: Writable, told: (lost: number) => string): (line: string) => void {
  let lost = 0;
  return (line) => {
    if (stream.writableLength + line.length > WAITING_MAX) {
      lost++;
      return;
    }
    stream.write(lost === 0 ? line : told(lost) + line);
    lost = 0;
  };
}

export class Log {
  /** Refusals by error code. */
  readonly refusals = new Map<string, number>();
  readonly #json: boolean;
  readonly #level: number;
  readonly #write: (line: string) => void;

  constructor({ format, level, write }: LogOptions) {
    this.#json = format === 'json';
    this.#level = LEVELS.indexOf(level);
    this.#write =
      write ?? lineWriter(process.stderr, (count) => this.#text('warn', 'lines of the log lost, since nobody read it', { count }));
  }

  error = (message: string, fields?: LogFields): void => this.#line('error', message, fields);
  warn = (message: string, fields?: LogFields): void => this.#line('warn', message, fields);
  info = (message: string, fields?: LogFields): void => this.#line('info', message, fields);
  debug = (message: string, fields?: LogFields): void => this.#line('debug', message, fields);

  /** What was refused and why: the error's own line. */
  refused(what: string, error: unknown, fields: LogFields = {}): void {
    const reason = MptError.is(error) ? { code: error.code, why: error.message } : { code: 'INTERNAL', why: String(error) };
    this.refusals.set(reason.code, (this.refusals.get(reason.code) ?? 0) + 1);
    this.#line(MptError.is(error) ? 'warn' : 'error', `${what} refused`, { ...fields, ...reason });
  }

  #line(level: LogLevel, message: string, fields?: LogFields): void {
    if (LEVELS.indexOf(level) <= this.#level) this.#write(this.#text(level, message, fields));
  }

  #text(level: LogLevel, message: string, fields: LogFields = {}): string {
    const known = Object.entries(fields).filter(([, value]) => value !== undefined);
    if (this.#json) return `${JSON.stringify({ time: new Date().toISOString(), level, message, ...Object.fromEntries(known) })}\n`;
    const text = known.map(([name, value]) => ` ${name}=${shown(value)}`).join('');
    return `mpt: ${level === 'info' ? '' : `${level}: `}${message}${text}\n`;
  }
}

/** Whatever a client sent stays on its line. */
const shown = (value: unknown): string => (/^[\w@%+=:,./-]+$/.test(String(value)) ? String(value) : JSON.stringify(String(value)));
