/**
 * Two guests at once on two vGPUs of one GPU, with weights 2:1, each with more work for its blitter than the GPU has time: what each gets
 * of the engine, as the vGPUs' counters tell it and as the guests count what was done.
 */
import { LabDaemon } from '../daemon.js';
import type { Guest } from '../guest.js';
import { findDevice, type Job, type Lab, LINE_LIMIT_S, mustEqual } from '../job.js';
import { IOMMU } from './gvt.js';

const WEIGHTS = [2, 1] as const;
const RATIO = 2;
const TOLERANCE = 0.1;
/**
 * Of the work: in a nanosecond of the engine the guest of weight 1 gets up to a fifth less done (measured). Probably it finds the caches colder, since its turns
 * are shorter, and two emulated processors run on the same cores between them.
 */
const WORK_TOLERANCE = 0.3;
/** A fresh vGPU goes before all others for two seconds; then weights count. */
const SETTLE_MS = 2300;
/** What is measured at least; at most, on a machine that has more to do than this. */
const MEASURED_MS = 4000;
const LONGEST_MS = 12_000;
/** A guest counts ten times a second, unless the machine keeps it from that. */
const TOLD_MS = 500;

const uuidOf = (i: number): string => `83b8f4f2-509f-382f-3c1e-e6bfe0fa100${i}`;

const SCRIPT = `${findDevice('0x8086', '0x1616')}
group=$(basename "$(readlink $device/iommu_group)")
echo 8086 1616 >/sys/bus/pci/drivers/vfio-pci/new_id
gvt-share "$group" "$(basename $device)" || exit
`;

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A guest's count of pieces of work, with the time when each was told. */
class Work {
  readonly #told: [ms: number, pieces: number][] = [];

  /** Takes a line that the guest says. */
  take(line: string): void {
    const done = /^done (\d+)$/.exec(line)?.[1];
    if (done !== undefined) this.#told.push([performance.now(), Number(done)]);
  }

  /** Pieces done by then; between two times that it was told, in proportion. NaN when it was not told around then. */
  at(ms: number): number {
    const next = this.#told.findIndex(([time]) => time >= ms);
    const [before, after] = [this.#told[next - 1], this.#told[next]];
    if (before === undefined || after === undefined) return Number.NaN;
    return before[1] + ((after[1] - before[1]) * (ms - before[0])) / (after[0] - before[0]);
  }
}

interface Sample {
  readonly ms: number;
  /** Nanoseconds on the blitter. */
  readonly ns: readonly [number, number];
}

async function sample(daemon: LabDaemon): Promise<Sample> {
  const shown = await Promise.all(WEIGHTS.map((_weight, i) => daemon.show(uuidOf(i))));
  const [a, b] = shown.map(({ statistics }) => statistics.bcs_ns as number) as [number, number];
  return { ms: performance.now(), ns: [a, b] };
}

const ratioOfTime = (from: Sample, to: Sample): number => (to.ns[0] - from.ns[0]) / (to.ns[1] - from.ns[1]);

const isNear = (ratio: number, tolerance: number): boolean => Math.abs(ratio / RATIO - 1) <= tolerance;

function mustBeNear(what: string, ratio: number, tolerance: number): void {
  if (!isNear(ratio, tolerance)) throw new Error(`${what} is ${ratio.toFixed(3)}:1`);
}

async function measure(lab: Lab, daemon: LabDaemon, guests: readonly Guest[], work: readonly [Work, Work]): Promise<void> {
  for (const guest of guests) await guest.line(/^submitting$/, LINE_LIMIT_S);
  await sleep(SETTLE_MS);
  const from = await sample(daemon);
  let to: Sample;
  let inTime: number;
  let pieces: [number, number];
  do {
    await sleep(MEASURED_MS / 2);
    to = await sample(daemon);
    // The guests tell of the end of the time, too.
    await sleep(TOLD_MS);
    inTime = ratioOfTime(from, to);
    const { ms } = to;
    pieces = work.map((count) => count.at(ms) - count.at(from.ms)) as [number, number];
  } while (
    to.ms - from.ms < MEASURED_MS ||
    (to.ms - from.ms < LONGEST_MS && !(isNear(inTime, TOLERANCE) && isNear(pieces[0] / pieces[1], WORK_TOLERANCE)))
  );
  const wall = (to.ms - from.ms) * 1e6;
  const used = to.ns[0] - from.ns[0] + to.ns[1] - from.ns[1];
  const [a, b] = pieces;
  lab.tell(
    `engine time ${inTime.toFixed(3)}:1, work ${Math.round(a)} to ${Math.round(b)} pieces, ${(a / b).toFixed(3)}:1, ` +
      `the engine was used ${((100 * used) / wall).toFixed(0)} % of ${(wall / 1e9).toFixed(1)} s`,
  );
  await lab.check('two vGPUs of weights 2:1 get engine time within 10 % of 2:1', () => mustBeNear('the engine time', inTime, TOLERANCE));
  await lab.check('their guests get work done within 30 % of 2:1', () => mustBeNear('the work', a / b, WORK_TOLERANCE));
  // In processor time of the device threads, which have two emulated processors beside them.
  await lab.check('and the engine worked, for one of them at a time', () => {
    if (used < wall / 10 || used > wall * 1.1) throw new Error(`it was used ${((100 * used) / wall).toFixed(0)} % of the time`);
  });
}

async function run(lab: Lab): Promise<void> {
  const programs = await lab.programs('gvt-share');
  const vgpus = WEIGHTS.map((weight, i) => ({ type: 'i915-GVTg_V4_8', uuid: uuidOf(i), set: { weight, display: false } }));
  const daemon = await LabDaemon.start(lab.checkout, lab.out, { vgpus });
  const work = [new Work(), new Work()] as const;
  const guests = WEIGHTS.map((_weight, i) =>
    lab.boot(
      {
        ...IOMMU,
        modules: ['vfio-pci', 'vfio_iommu_type1'],
        programs,
        script: SCRIPT,
        devices: daemon.devices(uuidOf(i)),
        print: (line) => work[i]?.take(line),
      },
      `guest-${i}`,
    ),
  );
  let over = false;
  void daemon.ended.then((how) => {
    if (!over) for (const guest of guests) guest.serverEnded(how);
  });
  let broken: Error | undefined;
  try {
    await measure(lab, daemon, guests, work);
    for (const guest of guests) guest.answer('enough');
    for (const [i, guest] of guests.entries()) {
      const [, wrong] = await guest.line(/^finished \d+ wrong (\d+)$/, LINE_LIMIT_S);
      await lab.check(`guest ${i}: all its work is done in order, and its picture is right`, () => mustEqual('wrong pixels', wrong, '0'));
    }
  } catch (error) {
    broken = error as Error;
    for (const guest of guests) guest.kill();
  }
  const failures = await Promise.all(guests.map((guest) => guest.ended));
  over = true;
  await lab.check('both guests did their job, without a fault in their kernels, and powered off', () => {
    const why = broken?.message ?? failures.find((failure) => failure !== undefined);
    if (why !== undefined) throw new Error(why);
  });
  await lab.check('the daemon lived until SIGTERM and ended with 0', () => daemon.stop());
}

export const GVT_SHARE: Job = { name: 'gvt-share', timeoutS: 180, run };
