/** A process with a busy device thread that ends in the way its arguments say. Run by the tests with a deadline. */
import { DeviceThread } from '../../src/device-thread/device-thread.js';
import type { StuckIn } from './jobs.js';

const [what, how] = process.argv.slice(2) as [StuckIn, 'exit' | 'throw' | 'wait'];
const thread = new DeviceThread(new URL('./jobs.js', import.meta.url), what);
thread.on('progress', () => {
  process.stdout.write('ready\n');
  if (how === 'exit') process.exit(7);
  if (how === 'throw')
    setImmediate(() => {
      throw new Error('uncaught on purpose');
    });
});
