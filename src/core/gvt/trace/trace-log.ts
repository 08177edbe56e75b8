/**
 * A trace in the trace-event format that Chrome's about:tracing and Perfetto read: text, one JSON object an event, in the order in which
 * things happened. Where it goes is the caller's; what is not written yet is bounded.
 */

/** Numbers of the rows that a vGPU has in a viewer. */
export const TRACE_ROWS = { VGPU: 0, RCS: 1, BCS: 2, VCS: 3, VECS: 4, INTERRUPTS: 5 } as const;

/** Phases (Trace Event Format): begin and end of a span, a whole span, an instant, metadata. */
export type TracePhase = 'B' | 'E' | 'X' | 'i' | 'M';

export interface TraceLogParts {
  /** Nanoseconds, never going back. */
  readonly now: () => number;
  /** Takes events as JSON objects, each after a comma but the first; never throws. */
  readonly write: (text: string) => void;
}

/** Characters that are kept at most before they are written, and how long, in nanoseconds. */
const BUFFER_MAX = 32_768;
const WRITE_EVERY_NS = 1e9;

export class TraceLog {
  readonly now: () => number;
  readonly #write: (text: string) => void;
  readonly #start: number;
  #text = '';
  #first = true;
  #written: number;

  constructor({ now, write }: TraceLogParts) {
    this.now = now;
    this.#write = write;
    this.#start = now();
    this.#written = this.#start;
  }

  /**
   * @param pid the vGPU. @param row of it
   * @param args a JSON object, or nothing
   * @param durationNs of a whole span, which began at `at`
   */
  event(phase: TracePhase, name: string, pid: number, row: number, at: number, args = '', durationNs = 0): void {
    const duration = phase === 'X' ? `,"dur":${micros(durationNs)}` : '';
    // An instant belongs to its row.
    const scope = phase === 'i' ? ',"s":"t"' : '';
    const data = args === '' ? '' : `,"args":${args}`;
    this.#text += `${this.#first ? '' : ',\n'}{"name":${JSON.stringify(name)},"ph":"${phase}","ts":${micros(at - this.#start)}${duration},"pid":${pid},"tid":${row}${scope}${data}}`;
    this.#first = false;
    if (this.#text.length >= BUFFER_MAX || at - this.#written >= WRITE_EVERY_NS) this.flush(at);
  }

  /** To be called when nothing happens for a moment: what is kept is written when it is old enough. */
  idle(): void {
    if (this.#text === '') return;
    const now = this.now();
    if (now - this.#written >= WRITE_EVERY_NS) this.flush(now);
  }

  /** Writes what is kept. */
  flush(at = this.now()): void {
    this.#written = at;
    if (this.#text === '') return;
    const text = this.#text;
    this.#text = '';
    this.#write(text);
  }
}

const micros = (ns: number): string => (ns / 1000).toFixed(3);
