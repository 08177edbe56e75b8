/**
 * The vGPU under Debian's unmodified i915 is saved to a file, destroyed, and restored into a new one, over and over while the guest works:
 * QEMU's socket stays connected, the guest notices nothing.
 */
import { statSync } from 'node:fs';
import type { Guest } from '../guest.js';
import { i915Complaint } from '../i915-complaint.js';
import { type Job, type Lab, LINE_LIMIT_S, mustEqual } from '../job.js';
import type { DeviceServer } from '../server.js';
import { igt } from '../trees.js';

/** How long each engine is kept busy with empty batches, seconds. */
const NOP_S = 3;
const NOP_ENGINES = ['rcs', 'bcs'] as const;
/** How long a program may take in an emulated guest that stands still again and again. */
const PROGRAM_LIMIT_S = 180;
/** The guest works so long between two exchanges. */
const PAUSE_MS = 200;

const resets = `$(dmesg | grep -c 'Resetting')`;

const SCRIPT = `
echo 0 >/sys/class/graphics/fbcon/cursor_blink
echo up
read go
gem-state || exit
echo checking
gem-check >/tmp/check 2>&1
echo "check ended $? $(tail -n 1 /tmp/check)"
${NOP_ENGINES.map(
  (engine) => `echo nop ${engine}
gem_exec_nop -e ${engine} -r ${NOP_S} >/tmp/nop 2>&1
echo "nop ended $? $(tail -n 1 /tmp/nop)"`,
).join('\n')}
echo "resets ${resets}"
`;

/** The vGPU goes, and comes out of the file as a new one. */
async function exchange(server: DeviceServer, file: string): Promise<void> {
  await server.state('--save', file, '--pause');
  await server.state('--restore', file);
}

/** Exchanges the vGPU until the guest has said that a program ended. @returns what it said, and how many times */
async function exchangeUntil(guest: Guest, server: DeviceServer, file: string, end: RegExp): Promise<{ said: string; times: number }> {
  let said: string | undefined;
  const over = guest.line(end, PROGRAM_LIMIT_S).then((match) => {
    said = match[1] as string;
  });
  let times = 0;
  // The guest's end, or its silence, is told by the line that is awaited.
  for (; said === undefined; times++) {
    const ended = await Promise.race([over.then(() => true), new Promise<false>((resolve) => setTimeout(() => resolve(false), PAUSE_MS))]);
    if (ended) break;
    await exchange(server, file);
  }
  await over;
  return { said: said as string, times };
}

async function run(lab: Lab): Promise<void> {
  const programs = await lab.programs('gem-state', 'gem-check');
  const file = `${lab.out}/vgpu.state`;
  const guestOptions = { modules: ['i915'], programs, packaged: await igt(), script: SCRIPT };
  await lab.withGuest({ device: 'gvt', type: 'GVTg_V4_8' }, guestOptions, async (guest, server) => {
    const line = async (pattern: RegExp, limitS = LINE_LIMIT_S): Promise<string> => (await guest.line(pattern, limitS))[1] as string;
    await line(/^(up)$/);
    const before = await server.picture(`${lab.out}/before.png`);
    await exchange(server, file);
    await lab.check('the display shows what it showed', async () => {
      const after = await server.picture(`${lab.out}/after.png`);
      mustEqual('its size', `${after.width}x${after.height}`, `${before.width}x${before.height}`);
      const different = after.pixels.findIndex((pixel, i) => pixel !== before.pixels[i]);
      if (different >= 0) throw new Error(`pixel ${different} differs`);
    });
    lab.tell(`a booted guest's vGPU: ${statSync(file).size} bytes`);

    guest.answer('go');
    await lab.check('work waits on four engines', async () =>
      mustEqual('it', await line(/^(queued on 4 engines)$/), 'queued on 4 engines'),
    );
    await exchange(server, file);
    guest.answer('go');
    await lab.check('saved in the middle of queued work, destroyed, restored: it goes on and is right', async () =>
      mustEqual('it', await line(/^(queued work right)$/), 'queued work right'),
    );

    await line(/^(checking)$/);
    const check = await exchangeUntil(guest, server, file, /^check ended (.*)$/);
    await lab.check(`gem-check: stores, blits, contexts and semaphores are right byte for byte over ${check.times} exchanges`, () => {
      mustEqual('its end', check.said, '0 gem-check done');
      if (check.times < 3) throw new Error(`${check.times} exchanges are too few to mean anything`);
    });
    for (const engine of NOP_ENGINES) {
      await line(new RegExp(`^(nop ${engine})$`));
      const nop = await exchangeUntil(guest, server, file, /^nop ended (.*)$/);
      lab.tell(`gem_exec_nop on ${engine}: ${nop.said.slice(2).trim()}, ${nop.times} exchanges`);
      await lab.check(`gem_exec_nop on ${engine} goes on over ${nop.times} exchanges`, () => {
        mustEqual('its exit code', nop.said.split(' ')[0], '0');
        if (nop.times < 2) throw new Error(`${nop.times} exchanges are too few to mean anything`);
      });
    }
    await lab.check('no engine was reset', async () => mustEqual('the number of resets', await line(/^resets (\d+)$/), '0'));
    await lab.check('i915 has nothing to complain of', () => mustEqual('its first complaint', i915Complaint(guest.console), undefined));
  });
}

export const I915_STATE: Job = { name: 'i915-state', timeoutS: 600, run };
