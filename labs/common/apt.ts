/**
 * Downloads Debian packages with apt, from the machine's own sources, in a state of apt's own: neither the lists nor the
 * packages of the machine are looked at or changed.
 */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { lastLine, type Outcome, run } from './children.js';
import { EXIT, LabError } from './lab-error.js';

const UPDATE_LIMIT_S = 120;
const DOWNLOAD_LIMIT_S = 400;

/** Read after the machine's configuration, so it wins. `{}` is the folder; the hooks would act on the machine. */
const CONFIGURATION = `
Dir::State "{}/state/";
Dir::State::lists "lists/";
Dir::State::status "{}/status";
Dir::Cache "{}/cache/";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Log "{}/log/";
APT::Architecture "amd64";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::GzipIndexes "false";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
`;

/** Added where the sources are the lab's own. */
const OWN_SOURCES = `
Dir::Etc::sourcelist "{}/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
`;

/** In Debian's package debian-archive-keyring: the keys of the releases until now. */
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** apt with a state in a folder of its own. */
export class Apt {
  readonly #folder: string;
  #complaint = '';
  #downloads = 0;

  /**
   * @param folder empty or new
   * @param own where the machine's sources are not the ones to use: an archive, and the releases of it
   */
  constructor(folder: string, own?: { readonly archive: string; readonly releases: readonly string[] }) {
    this.#folder = folder;
    for (const name of ['state/lists/partial', 'cache', 'log']) mkdirSync(join(folder, name), { recursive: true });
    writeFileSync(join(folder, 'status'), '');
    const configuration = own === undefined ? CONFIGURATION : CONFIGURATION + OWN_SOURCES;
    writeFileSync(join(folder, 'apt.conf'), configuration.replaceAll('{}', folder.replaceAll('"', '')));
    const lines = own?.releases.map((release) => `deb [signed-by=${KEYRING}] ${own.archive} ${release} main\n`) ?? [];
    if (own !== undefined) writeFileSync(join(folder, 'sources.list'), lines.join(''));
  }

  /** Fetches the lists. Sources that do not answer are passed over: it shows later whether they were needed. */
  async update(): Promise<void> {
    if (!existsSync('/usr/bin/apt-get')) throw new LabError(EXIT.SKIPPED, 'this machine has no apt-get to fetch Debian packages with');
    const outcome = await this.#run('apt-get', ['update'], UPDATE_LIMIT_S);
    this.#complaint = complaintOf(outcome);
    if (outcome.status !== 0) throw unreachable(this.#complaint);
  }

  /** Address of the archive that the machine has Debian from. */
  async archive(): Promise<string> {
    const filters = ['Origin: Debian', 'Label: Debian', 'Component: main', 'Created-By: Packages'];
    const { stdout } = await this.#run('apt-get', ['indextargets', '--format', '$(REPO_URI)', ...filters], UPDATE_LIMIT_S);
    const [address = ''] = stdout.split('\n');
    if (address === '') throw unreachable(this.#complaint || "the sources of apt have no Debian archive's main component");
    return address;
  }

  /** The package of the kernel that a metapackage (`linux-image-amd64`) stands for today. */
  async kernelPackage(metapackage: string): Promise<string> {
    const { stdout } = await this.#run('apt-cache', ['show', '--no-all-versions', metapackage], UPDATE_LIMIT_S);
    const name = /^Depends: (linux-image-[\w.+-]+)/m.exec(stdout)?.[1];
    if (name === undefined) throw unreachable(this.#complaint || `the sources of apt have no package ${metapackage}`);
    return name;
  }

  /** Downloads exactly these packages. @returns the files */
  async download(names: readonly string[]): Promise<string[]> {
    const folder = join(this.#folder, 'debs');
    mkdirSync(folder);
    const outcome = await this.#run('apt-get', ['download', ...names], DOWNLOAD_LIMIT_S, folder);
    if (outcome.status !== 0) throw unreachable(complaintOf(outcome) || this.#complaint);
    return debs(folder);
  }

  /**
   * Downloads packages and all that they depend on, as for a machine that has nothing.
   * @param release that whose versions are preferred; default what the sources prefer. @returns the files
   */
  async downloadWithDependencies(names: readonly string[], release?: string): Promise<string[]> {
    // A folder for each: what was downloaded for others is not what these need.
    const folder = join(this.#folder, 'cache', `archives-${++this.#downloads}`);
    mkdirSync(join(folder, 'partial'), { recursive: true });
    const from = release === undefined ? [] : ['--target-release', release];
    const options = ['--download-only', '--no-install-recommends', '--yes', '-o', `Dir::Cache::archives=${folder}/`, ...from];
    const outcome = await this.#run('apt-get', ['install', ...options, ...names], DOWNLOAD_LIMIT_S);
    if (outcome.status !== 0) throw unreachable(complaintOf(outcome) || this.#complaint);
    return debs(folder);
  }

  #run(program: string, args: readonly string[], timeoutS: number, cwd = this.#folder): Promise<Outcome> {
    const env = { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' };
    return run(program, ['-c', join(this.#folder, 'apt.conf'), '-q', ...args], { cwd, env, timeoutS });
  }
}

/** `NAME_VERSION_ARCHITECTURE.deb`, where the version is percent-encoded. */
export function nameAndVersion(deb: string): [name: string, version: string] {
  const [name = '', version = ''] = basename(deb).split('_');
  return [name, decodeURIComponent(version)];
}

const debs = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.deb'))
    .map((name) => join(folder, name));

const unreachable = (why: string): LabError => new LabError(EXIT.SKIPPED, `Debian's packages cannot be fetched: ${why}`);

/** What apt complains of first, without the names of servers. */
function complaintOf({ stderr }: Outcome): string {
  const lines = stderr.split('\n').filter((line) => /^[EW]: /.test(line));
  const line = lines.find((text) => /resolv|connect|unreachable|timed? ?out|Unable to locate/i.test(text)) ?? lines[0] ?? lastLine(stderr);
  return line
    .replace(/^[EW]: (Failed to fetch )?/, '')
    .replaceAll(/\w+:\/\/\S+\s*/g, '')
    .replaceAll(/'[^' ]*\.[^' ]*'/g, 'the server')
    .replaceAll(/\S+:\d+(?= \()/g, 'the server')
    .replaceAll(/\s+/g, ' ')
    .trim();
}
