/** `mpt replay`: a device model against a recording, with no hypervisor. */
import { resolve } from 'node:path';
import { DeviceThread } from '../../device-thread/device-thread.js';
import type { ReplayOutput } from '../../jobs/replay.js';
import type { Divergence, RecordingHeader } from '../../recording/index.js';
import { EXIT } from '../exit-codes.js';
import { interruptible, Progress, print, printJson } from '../terminal.js';

export interface ReplayOptions {
  json?: boolean;
}

export async function replayCommand(file: string, options: ReplayOptions): Promise<number> {
  const started = performance.now();
  const report = await run(resolve(file));
  const ms = Math.round(performance.now() - started);
  const { header, steps, events, unasked, pages, recordedMs, truncated, divergence, totals } = report;
  if (options.json === true) {
    printJson({ file, ...header, steps, events, unasked, pages, recordedMs, truncated, divergence, ...(totals && { totals }), ms });
    return divergence === null ? EXIT.OK : EXIT.FAILED;
  }
  print(`recording ${describe(header)}, made ${header.created}`);
  print(`replayed  ${steps} steps, ${events} events, in ${ms} ms${recordedMs === null ? '' : `; recorded in ${recordedMs} ms`}`);
  if (totals !== undefined) print(`cases     ${totals.pass} pass, ${totals.fail} fail, ${totals.skip} skip`);
  if (unasked > 0) print(`unasked   ${unasked} looks at guest memory or the clock that the device model had no use for`);
  if (divergence !== null) {
    printDivergence(divergence);
    return EXIT.FAILED;
  }
  if (recordedMs === null) print(`incomplete: the recording was not ended in order${truncated ? '; its last block is cut off' : ''}`);
  print('the same  to the last event');
  return EXIT.OK;
}

function describe(header: RecordingHeader): string {
  if (header.kind === 'device') return `of ${header.type}`;
  const what = header.kind === 'gvt' ? 'a GVT device' : 'the conformance suite';
  return `of ${what} on ${header.backend.name} ${header.backend.version}`;
}

function printDivergence({ step, what, expected, got, history }: Divergence): void {
  print(`DIFFERENT at step ${step}: ${what}`);
  print(`expected  ${expected}`);
  print(`got       ${got}`);
  print('before it');
  for (const line of history) print(`  ${line}`);
}

async function run(path: string): Promise<ReplayOutput> {
  const progress = new Progress();
  const thread = new DeviceThread<ReplayOutput>(new URL('../../jobs/replay.js', import.meta.url), { path });
  thread.on('progress', (text) => progress.show(text));
  try {
    return await interruptible(
      () => void thread.stop(),
      () => thread.result,
    );
  } finally {
    progress.clear();
  }
}
