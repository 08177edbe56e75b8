/**
 * What a trace shows of one vGPU. On each engine's row: spans of contexts, from where one is loaded to where it is done, preempted or reset; in
 * them spans of execution; instants of submissions, status entries and hangs. Beside them interrupts, resets and failsafe.
 */
import { ENGINES, type EngineId, type GvtEvent } from '../roles.js';
import { TRACE_ROWS, type TraceLog } from './trace-log.js';

/** Rows of the engines, by `EngineId`. */
const ROWS = [TRACE_ROWS.RCS, TRACE_ROWS.BCS, TRACE_ROWS.VCS, TRACE_ROWS.VECS] as const;
const NOTHING = -1;

export class VgpuTrace {
  readonly #log: TraceLog;
  readonly #pid: number;
  /** Contexts whose spans are open, by engine. */
  readonly #open = ENGINES.map(() => NOTHING);

  constructor(log: TraceLog, id: number, type: string) {
    this.#log = log;
    this.#pid = id;
    this.#name('process_name', TRACE_ROWS.VGPU, `vGPU ${id} ${type}`);
    this.#name('thread_name', TRACE_ROWS.VGPU, 'vGPU');
    for (const { id: engine, name } of ENGINES) this.#name('thread_name', ROWS[engine], name);
    this.#name('thread_name', TRACE_ROWS.INTERRUPTS, 'interrupts');
  }

  now(): number {
    return this.#log.now();
  }

  submitted(engine: EngineId, contexts: readonly number[]): void {
    this.#instant('submit', ROWS[engine], `{"contexts":${JSON.stringify(contexts)}}`);
  }

  /** A context begins on the engine. */
  loaded(engine: EngineId, context: number): void {
    this.#close(engine, 'switched');
    this.#begin(engine, context, this.now());
  }

  /** The engine executed for the context from `from` until now. @param commands how many */
  ran(engine: EngineId, context: number, from: number, commands: number): void {
    // A context of a vGPU that was restored has not been loaded before our eyes.
    if (this.#open[engine] === NOTHING) this.#begin(engine, context, from);
    this.#log.event('X', 'execute', this.#pid, ROWS[engine], from, `{"commands":${commands}}`, this.now() - from);
  }

  /** The context's ring is done. */
  finished(engine: EngineId): void {
    this.#close(engine, 'done');
  }

  /** The engine forgets what it has. */
  dropped(engine: EngineId): void {
    this.#close(engine, 'reset');
  }

  /** A status entry. */
  switched(engine: EngineId, status: number, context: number): void {
    this.#instant('context switch', ROWS[engine], `{"status":${status},"context":${context}}`);
  }

  hung(engine: EngineId, why: string): void {
    this.#instant('hang', ROWS[engine], `{"why":${JSON.stringify(why)}}`);
  }

  /** An interrupt event that is not masked: user interrupts, vertical blanks, … */
  raised(event: GvtEvent): void {
    this.#instant(event, TRACE_ROWS.INTERRUPTS, '');
  }

  msi(address: number, data: number): void {
    this.#instant('MSI', TRACE_ROWS.INTERRUPTS, `{"address":${address},"data":${data}}`);
  }

  /** Something that concerns the whole vGPU. @param args a JSON object, or nothing */
  told(what: string, args = ''): void {
    this.#instant(what, TRACE_ROWS.VGPU, args);
  }

  #begin(engine: EngineId, context: number, at: number): void {
    this.#open[engine] = context;
    this.#log.event('B', `context ${context}`, this.#pid, ROWS[engine], at);
  }

  #close(engine: EngineId, how: string): void {
    const context = this.#open[engine] as number;
    if (context === NOTHING) return;
    this.#open[engine] = NOTHING;
    this.#log.event('E', `context ${context}`, this.#pid, ROWS[engine], this.now(), `{"how":"${how}"}`);
  }

  #instant(name: string, row: number, args: string): void {
    this.#log.event('i', name, this.#pid, row, this.now(), args);
  }

  #name(what: string, row: number, name: string): void {
    this.#log.event('M', what, this.#pid, row, this.now(), `{"name":${JSON.stringify(name)}}`);
  }
}
