/** Our side of a row as a program, BACKEND SUBJECT ARGUMENT...: a count a line on stdin, one JSON line on stdout, as the C programs do it. */
import { readSync } from 'node:fs';
import { chooseBackend, closeBackends } from './guest.js';
import { type Open, report, type Sample } from './sample.js';

/** Loaded one by one: a cold start must not pay for the others. */
const SUBJECTS: Readonly<Record<string, () => Promise<{ open: Open }>>> = {
  exits: () => import('./exits.js'),
  msi: () => import('./msi.js'),
  copies: () => import('./copies.js'),
  attach: () => import('./attach.js'),
  'cold-start': () => import('./cold-start.js'),
  'page-track': () => import('./page-track.js'),
  dma: () => import('./dma.js'),
  create: () => import('./create.js'),
  ppgtt: () => import('../gvt/ours/ppgtt.js'),
  ggtt: () => import('../gvt/ours/ggtt.js'),
  blit: () => import('../gvt/ours/blit.js'),
  submission: () => import('../gvt/ours/submission.js'),
};

/** Answers counts until stdin ends. Reads block: nothing else is to run in this process. */
function serve(sample: Sample): void {
  const chunk = Buffer.alloc(256);
  let text = '';
  for (let n = readSync(0, chunk); n > 0; n = readSync(0, chunk)) {
    text += chunk.toString('latin1', 0, n);
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
      const count = Number(text.slice(0, end));
      text = text.slice(end + 1);
      report(sample(count));
    }
  }
}

const [backend = '', name = '', ...args] = process.argv.slice(2);
try {
  const subject = SUBJECTS[name];
  if (subject === undefined) throw new Error(`no subject is called '${name}'`);
  await chooseBackend(backend);
  const sample = await (await subject()).open(args);
  if (sample !== undefined) serve(sample);
} catch (error) {
  // One line: the parent puts it into its own message.
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  closeBackends();
}
