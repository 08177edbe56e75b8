/** Replay of a recording as a job of the device thread. */
import { MptError } from '../core/errors.js';
import type { Job } from '../device-thread/protocol.js';
import { type ReplayReport, replay } from '../recording/index.js';

export interface ReplayInput {
  readonly path: string;
}

export const job: Job<ReplayInput, ReplayReport> = ({ path }, context) => {
  const report = replay(path, {
    stop: () => context.stopped(),
    onProgress: (part) => context.progress(`${Math.floor(part * 100)} % of ${path}`),
  });
  if (context.stopped()) throw new MptError('STOPPED', `stopped after ${report.steps} steps`, { op: 'replay' });
  return report;
};
