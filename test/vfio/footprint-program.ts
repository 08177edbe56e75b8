/** Program of the tests: devices on device threads of their own. Arguments: folder, count, kind. Prints what they hold, and ends. */
import { readFileSync } from 'node:fs';
import { YOUNG_GENERATION_MB } from '../../src/cli/commands/serve.js';
import { DeviceThread } from '../../src/device-thread/device-thread.js';
import type { ServeInput, ServeNotice, ServeOutput } from '../../src/jobs/serve.js';

const [folder = '', count = '0', device = 'mbochs'] = process.argv.slice(2);
const threads = Array.from({ length: Number(count) }, (_, i) => {
  const input: ServeInput = {
    device: device as ServeInput['device'],
    place: `${folder}/${device}-${count}-${i}.sock`,
    trustClient: false,
  };
  return new DeviceThread<ServeOutput>(new URL('../../src/jobs/serve.js', import.meta.url), input, {
    youngGenerationMb: YOUNG_GENERATION_MB,
  });
});
await Promise.all(
  threads.map(
    (thread) =>
      new Promise<void>((resolve, reject) => {
        thread.on('notice', (notice) => ((notice as ServeNotice).type === 'ready' ? resolve() : undefined));
        thread.result.catch(reject);
      }),
  ),
);
globalThis.gc?.();
/** Of /proc/self/status, MiB: the framebuffer is shared memory, everything else is the process's own. */
const status = readFileSync('/proc/self/status', 'latin1');
const mebibytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) / 1024;
process.stdout.write(`${JSON.stringify({ own: mebibytes('RssAnon'), shared: mebibytes('RssShmem') })}\n`);
await Promise.all(threads.map((thread) => thread.stop()));
