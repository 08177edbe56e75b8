/** What `npm run lab:xen` runs without a command: one boot a job, two at a time, in this order: the longest first. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { must, temporary } from '../common/children.js';

export interface PlanJob {
  readonly name: string;
  /** For bash in dom0, in the checkout. It fails by its exit code; the `*.tap` files that it leaves in `$MPT_LAB_OUT` are counted. */
  readonly command: string;
  readonly timeoutS: number;
  /** Not run unless it is asked for by name: the plan stays below six minutes. */
  readonly onlyByName?: true;
  /** Looks at what the job left, on the host. Each counts as one point. */
  readonly checks?: Readonly<Record<string, (out: string, checkout: string) => Promise<void>>>;
}

const MPT = 'node build/src/cli/mpt.js';
/** Its dom0 is emulated: on a busy machine a case of thousands of refusals passes the usual limit. */
const conformance = (guest: string): string =>
  `${MPT} conformance --backend xen --case-timeout 240000 --config labs/xen/${guest}.json >"$MPT_LAB_OUT/result.tap"`;

export const PLAN: readonly PlanJob[] = [
  {
    name: 'tests',
    onlyByName: true,
    command: `
      rc=0
      export TAP_TIMEOUT=600
      for file in build/test/xen/*.test.js; do
        [ -e "$file" ] || { echo 'there are no tests in build/test/xen'; exit 1; }
        node "$file" >"$MPT_LAB_OUT/$(basename "$file" .test.js).tap" || rc=1
      done
      exit $rc`,
    timeoutS: 1000,
  },
  { name: 'conformance-hvm', command: conformance('hvm'), timeoutS: 480 },
  { name: 'conformance-pvh', command: conformance('pvh'), timeoutS: 480 },
  {
    name: 'xl',
    onlyByName: true,
    command: 'TAP_TIMEOUT=400 node build/test/xen/xl/xl.test.js >"$MPT_LAB_OUT/xl.tap"',
    timeoutS: 400,
    checks: {
      'the picture drawn in a PVH domain of xl, by name, is the one that sim draws': samePictureAsSim('by-name.png'),
      'the picture drawn in an HVM domain of xl, by number, is the one that sim draws': samePictureAsSim('by-number.png'),
    },
  },
  {
    name: 'picture',
    command: `${MPT} backends && ${MPT} run --backend xen --picture "$MPT_LAB_OUT/card.png" --json`,
    timeoutS: 400,
    checks: { 'the picture is the one that sim draws': samePictureAsSim('card.png') },
  },
];

function samePictureAsSim(picture: string): (out: string, checkout: string) => Promise<void> {
  return async (out, checkout) => {
    const drawn = join(out, picture);
    if (!existsSync(drawn)) throw new Error('no picture was drawn');
    const folder = temporary(mkdtempSync(join(tmpdir(), 'mpt-lab-')));
    const wanted = join(folder, 'card.png');
    try {
      await must(process.execPath, ['build/src/cli/mpt.js', 'run', '--backend', 'sim', '--picture', wanted], { cwd: checkout });
      const [xen, sim] = [drawn, wanted].map((path) => createHash('sha256').update(readFileSync(path)).digest('hex'));
      if (xen !== sim) throw new Error(`sha256 ${xen}, on sim ${sim}`);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
}
