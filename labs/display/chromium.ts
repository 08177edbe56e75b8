/** Debian's headless Chromium, fetched and unpacked when it is not in the cache: the program, and the libraries that it loads. */
import { copyFileSync, cpSync, mkdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Apt, nameAndVersion } from '../common/apt.js';
import { Cache, type Made, type Recipe } from '../common/cache.js';
import { must } from '../common/children.js';
import { unpack, unpacking } from '../common/debs.js';
import { EXIT, LabError } from '../common/lab-error.js';
import { tell } from './progress.js';

/** Changes when the way in which the tree is made does. */
const FORMAT = 1;
const PACKAGE = 'chromium-headless-shell';
/** The machine's own: the dynamic linker, which starts the program, belongs to its libc. */
const OF_THE_MACHINE = ['libc6'];

const CHROMIUM: Recipe = { name: 'chromium', packages: [PACKAGE], contents: { FORMAT } };
/** In the tree. */
const PROGRAM = `chromium/${PACKAGE}`;
const LIBRARIES = 'lib';

const cache = new Cache('display', tell);

export interface Chromium {
  readonly program: string;
  readonly env: Readonly<Record<string, string>>;
}

/** @throws LabError SKIPPED when Debian cannot be reached, NO_VERDICT when what was fetched cannot be unpacked */
export async function chromium(): Promise<Chromium> {
  if (process.arch !== 'x64') throw new LabError(EXIT.SKIPPED, `the fetched Chromium is x86-64, this machine is ${process.arch}`);
  await cache.complete([CHROMIUM], fetchAndUnpack);
  const tree = cache.treeOf(CHROMIUM);
  return { program: join(tree, PROGRAM), env: { LD_LIBRARY_PATH: join(tree, LIBRARIES) } };
}

async function fetchAndUnpack(folder: string): Promise<Made> {
  const apt = new Apt(join(folder, 'apt'));
  tell('reading the package lists');
  await apt.update();
  tell(`fetching ${PACKAGE} with all that it needs`);
  const debs = await apt.downloadWithDependencies([PACKAGE]);
  tell(`unpacking ${debs.length} packages`);
  const whole = join(folder, 'whole');
  const needed = debs.filter((deb) => !OF_THE_MACHINE.includes(nameAndVersion(deb)[0]));
  await unpacking(unpack(needed, whole, ['--exclude=./usr/share/*']).then(() => keep(whole, join(folder, CHROMIUM.name))));
  rmSync(whole, { recursive: true });
  return new Map([[CHROMIUM, Object.fromEntries(debs.map(nameAndVersion))]]);
}

/** Copies the program's folder and the libraries that it is linked to out of the unpacked packages. */
async function keep(whole: string, tree: string): Promise<void> {
  const folders = ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu/pulseaudio'].map((name) =>
    join(whole, name),
  );
  mkdirSync(join(tree, LIBRARIES), { recursive: true });
  cpSync(join(whole, 'usr/lib/chromium'), join(tree, 'chromium'), { recursive: true });
  const env = { ...process.env, LC_ALL: 'C', LD_LIBRARY_PATH: folders.join(':') };
  const listed = await must('ldd', [join(tree, PROGRAM)], { env });
  for (const line of listed.split('\n').filter((text) => text.includes(' => '))) {
    const file = / => (\/\S+) \(0x/.exec(line)?.[1];
    if (file === undefined) throw new Error(`${PACKAGE} misses ${line.trim()}`);
    if (file.startsWith(whole)) copyFileSync(file, join(tree, LIBRARIES, basename(file)));
  }
}
