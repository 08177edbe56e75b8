/** The conformance suite as a job of the device thread. */
import { type BackendModule, findBackend } from '../backends/index.js';
import { type ConformanceReport, type OpenOptions, runConformance } from '../conformance/index.js';
import type { PageTrackLevel } from '../core/capabilities.js';
import { MptError } from '../core/errors.js';
import type { MptBackend } from '../core/mpt-backend.js';
import type { Job } from '../device-thread/protocol.js';
import { openSuiteTape } from '../recording/index.js';
import { openTaped, tellCase } from './suite-recording.js';

export interface ConformanceInput {
  readonly backend: string;
  readonly options: Record<string, unknown>;
  /** Only cases whose id starts with this. */
  readonly filter: string;
  /** What a case may take; default: the suite's. */
  readonly caseTimeoutMs?: number;
  /** File to record to. */
  readonly record?: string;
}

const LEVELS: readonly PageTrackLevel[] = ['trap', 'sync'];

/** True when the backend has an option for the level of page track and this machine offers that level. */
const canTrack = (backend: BackendModule, options: Record<string, unknown>, level: PageTrackLevel): boolean =>
  'pageTrack' in backend.optionsSchema.properties && backend.probe({ ...options, pageTrack: level }).capabilities?.pageTrack === level;

export const job: Job<ConformanceInput, ConformanceReport> = ({ backend: name, options, filter, caseTimeoutMs, record }, context) => {
  const backend = findBackend(name);
  const probe = backend.probe(options);
  if (!probe.available)
    throw new MptError('UNAVAILABLE', `the backend cannot be used here: ${probe.reason}`, { backend: name, op: 'conformance' });
  const version = probe.version ?? '';
  const limit = caseTimeoutMs === undefined ? {} : { caseTimeoutMs };
  const pageTrackLevels = options['pageTrack'] === undefined ? LEVELS.filter((level) => canTrack(backend, options, level)) : [];
  const tape = record === undefined ? undefined : openSuiteTape(record, { backend: { name, version }, filter, pageTrackLevels, ...limit });
  const open = (asked?: OpenOptions): MptBackend => {
    const opened = backend.open({ ...options, ...asked });
    opened.stopFlag = context.stopFlag;
    return opened;
  };
  const report = runConformance({
    name,
    version,
    filter,
    ...limit,
    pageTrackLevels,
    open: tape === undefined ? open : (asked) => openTaped(tape, asked, context.stopFlag, open),
    stop: () => context.stopped(),
    onResult: (result, done, total) => {
      if (result.reason === 'stopped') return;
      if (tape !== undefined) tellCase(tape, result);
      context.progress(`${done}/${total} ${result.status} ${result.id}`);
    },
  });
  tape?.close();
  const ran = report.cases.filter(({ reason }) => reason !== 'stopped').length;
  if (context.stopped()) throw new MptError('STOPPED', `stopped after ${ran} of ${report.cases.length} cases`, { op: 'conformance' });
  return report;
};
