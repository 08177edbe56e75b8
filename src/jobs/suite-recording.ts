/** The conformance suite against a tape: with a backend that is recorded, or against a recording. */
import { type CaseResult, type ConformanceReport, type OpenOptions, runConformance } from '../conformance/index.js';
import { MptError } from '../core/errors.js';
import type { MptBackend } from '../core/mpt-backend.js';
import {
  type EventReader,
  type ReplayReport,
  ReplaySuiteTape,
  SuiteBackend,
  type SuiteHeader,
  type SuiteTape,
} from '../recording/index.js';

/** Opens a backend of the suite. @param open the backend that is recorded */
export function openTaped(
  tape: SuiteTape,
  asked: OpenOptions | undefined,
  stopFlag: SharedArrayBuffer,
  open?: (asked?: OpenOptions) => MptBackend,
): SuiteBackend {
  let inner: MptBackend | undefined;
  const facts = tape.call('open', [asked ?? {}], () => {
    inner = (open as NonNullable<typeof open>)(asked);
    const { name, version, capabilities } = inner;
    return { name, version, capabilities };
  });
  const backend = new SuiteBackend(tape, facts, inner);
  backend.stopFlag = stopFlag;
  return backend;
}

/** How a case ended is on the tape too: in a replay it must end so again. */
export const tellCase = (tape: SuiteTape, { id, status }: CaseResult): void => tape.call('case', [id, status], () => undefined);

/** Runs the suite against a recording. */
export function replaySuite(
  reader: EventReader,
  header: SuiteHeader,
  context: { stopped(): boolean; progress(text: string): void },
): ReplayReport & { readonly totals: ConformanceReport['totals'] } {
  const tape = new ReplaySuiteTape(reader);
  const { backend, filter, pageTrackLevels, caseTimeoutMs } = header;
  const done = (): boolean => context.stopped() || tape.divergence !== undefined;
  let totals: ConformanceReport['totals'] = { pass: 0, fail: 0, skip: 0 };
  try {
    totals = runConformance({
      ...backend,
      filter,
      ...(caseTimeoutMs === undefined ? {} : { caseTimeoutMs }),
      pageTrackLevels,
      open: (asked) => openTaped(tape, asked, new SharedArrayBuffer(4)),
      stop: done,
      onCase: (id) => {
        tape.case = id;
      },
      onResult: (result, number, total) => {
        if (result.reason === 'stopped' || tape.divergence !== undefined) return;
        context.progress(`${number}/${total} ${result.status} ${result.id}`);
        tellCase(tape, result);
      },
    }).totals;
    if (!done()) tape.finish();
  } catch (error) {
    // The divergence says what, and where.
    if (tape.divergence === undefined) throw MptError.is(error) ? error : impossible(error);
  }
  const { crossings, recordedMs, divergence = null } = tape;
  const { truncated } = reader;
  return { header, steps: crossings, events: crossings, unasked: 0, pages: 0, recordedMs, truncated, divergence, totals };
}

/** Answers come out of the file with whatever shape they have there. */
const impossible = (cause: unknown): MptError =>
  new MptError('BAD_RECORDING', 'the recording has an answer that no backend gives', { op: 'replay', cause });
