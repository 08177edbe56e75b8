/** Replay of a recording as a job of the device thread. */
import { MptError } from '../core/errors.js';
import type { Job } from '../device-thread/protocol.js';
import { EventReader, type ReplayReport, replay } from '../recording/index.js';
import { replaySuite } from './suite-recording.js';

export interface ReplayInput {
  readonly path: string;
}

export interface ReplayOutput extends ReplayReport {
  /** Of a recording of the suite. */
  readonly totals?: { readonly pass: number; readonly fail: number; readonly skip: number };
}

export const job: Job<ReplayInput, ReplayOutput> = ({ path }, context) => {
  const reader = new EventReader(path);
  try {
    const { header } = reader;
    const report: ReplayOutput =
      header.kind === 'conformance'
        ? replaySuite(reader, header, context)
        : replay(path, {
            stop: () => context.stopped(),
            onProgress: (part) => context.progress(`${Math.floor(part * 100)} % of ${path}`),
          });
    if (context.stopped()) throw new MptError('STOPPED', `stopped after ${report.steps} steps`, { op: 'replay' });
    return report;
  } finally {
    reader.close();
  }
};
