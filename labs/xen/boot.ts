/** One boot: QEMU, Xen, dom0, the command, the verdict. */
import { closeSync, mkdtempSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { temporary } from '../common/children.js';
import { makeFolder } from '../common/folders.js';
import { EXIT } from '../common/lab-error.js';
import { byLine } from '../common/lines.js';
import { seconds, type Tell } from '../common/progress.js';
import { type End, startQemu } from '../common/qemu-process.js';
import { Tail } from '../common/tail.js';
import { initramfs, type Job } from './initramfs.js';
import type { Trees } from './trees.js';
import { KERNEL, XEN_ELF } from './unpack.js';

export interface Boot {
  readonly command: readonly string[];
  /** Folder in which dom0 runs the command. */
  readonly folder: string;
  /** Folder for the files of the run; the command sees it at the same path. */
  readonly out: string;
  readonly timeoutS: number;
  readonly tell: Tell;
  /** Gets what the command prints. */
  readonly print?: (bytes: Buffer) => void;
}

export interface Result {
  /** `exit`: the command ended. `none`: QEMU ended without telling how. */
  readonly verdict: 'exit' | 'timeout' | 'panic' | 'none';
  /** The command's exit code, or that of the lab when there is none. */
  readonly rc: number;
  /** Why it is not 0, in one line. */
  readonly reason?: string;
  /** From the start of QEMU to its end. */
  readonly seconds: number;
}

const PANIC = /Panic on CPU|Kernel panic|Dom0 crashed|Xen BUG|FATAL/;
/** What `init` and the session say begins so. */
const SAID = /mpt-lab: (.*)/;
/** A panic prints its stack, then the machine reboots, which ends QEMU. */
const PANIC_GRACE_MS = 3000;

/**
 * With SMAP the PV dom0 dies, with MONITOR Xen panics, with RDTSCP a Linux PVH guest dies. With AVX and XSAVE, V8's compiler thread
 * crashed in one run of three while a guest ran (cores: a null pointer in TurboFan, always at one instruction, or a trap in code that
 * it made); without them it has not so far.
 */
const WITHOUT = ['monitor', 'rdtscp', 'smap', 'avx', 'avx2', 'f16c', 'fma', 'xsave', 'xsaveopt', 'xsavec', 'xgetbv1', 'xsaves'];
/** With more than one CPU, Node crashes at times. */
const MACHINE = [
  ...['-machine', 'pc', '-accel', 'tcg', '-cpu', ['EPYC', ...WITHOUT.map((feature) => `-${feature}`)].join(), '-m', '2G', '-smp', '1'],
  ...['-no-reboot', '-nodefaults', '-display', 'none', '-monitor', 'none'],
  ...['-device', 'isa-debug-exit,iobase=0x501,iosize=1', '-device', 'bochs-display,addr=5', '-device', 'edu,addr=6,dma_mask=0xffffffffff'],
];
const XEN_COMMAND_LINE = 'console=com1 com1=115200,8n1 loglvl=warning guest_loglvl=none dom0_mem=1G,max:1G';
/** As file descriptors: a path may hold what QEMU's list of modules cannot, and the initramfs has no name any more. */
const MODULES = '/dev/fd/3 console=hvc0 quiet,/dev/fd/4';

/** A value in a list that QEMU splits at commas. */
const escaped = (path: string): string => path.replaceAll(',', ',,');

const argumentsOf = (xen: string, out: string): string[] => [
  ...MACHINE,
  ...['-serial', `file:${join(out, 'serial.log')}`],
  ...['-fsdev', 'local,id=root,path=/,security_model=none,readonly=on,multidevs=remap'],
  ...['-device', 'virtio-9p-pci,fsdev=root,mount_tag=hostroot'],
  ...['-fsdev', `local,id=out,path=${escaped(out)},security_model=none`, '-device', 'virtio-9p-pci,fsdev=out,mount_tag=out'],
  ...['-kernel', join(xen, XEN_ELF), '-append', XEN_COMMAND_LINE, '-initrd', MODULES],
];

/**
 * Boots and waits for the end. A machine that dies before the command began is booted a second time: nothing was tested yet.
 * @throws LabError when the files of the run cannot be written
 */
export async function boot(trees: Trees, asked: Boot): Promise<Result> {
  const { mayBootAgain, ...result } = await bootOnce(trees, asked);
  if (!mayBootAgain) return result;
  asked.tell(`${result.reason}; booting again, its log is kept as serial-first.log`);
  renameSync(join(asked.out, 'serial.log'), join(asked.out, 'serial-first.log'));
  const { mayBootAgain: _, ...second } = await bootOnce(trees, asked);
  return second;
}

type Attempt = Result & { readonly mayBootAgain: boolean };

async function bootOnce({ xen, qemu }: Trees, { command, folder, out, timeoutS, tell, print }: Boot): Promise<Attempt> {
  const log = join(out, 'serial.log');
  const job: Job = { command, folder, env: environment(xen, out) };
  const files = bootFiles(xen, out, job);
  const began = performance.now();
  tell(`booting Xen, files in ${out}`);
  const machine = startQemu(qemu, argumentsOf(xen, out), ['ignore', 'ignore', 'pipe', ...files]);
  for (const fd of files) closeSync(fd);

  const seen: Seen = { said: '', up: false };
  const serial = new Tail(
    log,
    byLine((line) => {
      if (seen.panic === undefined && PANIC.test(line)) {
        seen.panic = line.trim();
        setTimeout(machine.kill, PANIC_GRACE_MS).unref();
      }
      const words = SAID.exec(line)?.[1]?.trim();
      if (words === 'up') {
        seen.up = true;
        tell(`dom0 up after ${seconds(began)} s`);
      }
      seen.said = words ?? seen.said;
    }),
  );
  const printed = new Tail(join(out, 'console.log'), (bytes) => print?.(bytes));
  const timer = setTimeout(() => {
    seen.late = timeoutS;
    machine.kill();
  }, timeoutS * 1000);
  const end = await machine.ended;
  clearTimeout(timer);
  serial.close();
  printed.close();
  // Exit 0 is a reset. With 1 QEMU refuses its arguments.
  const mayBootAgain = !seen.up && (seen.panic !== undefined || end.status === 0);
  return { ...verdictOf(end, seen, out), seconds: seconds(began), mayBootAgain };
}

/** What the serial log and the clock told. */
interface Seen {
  /** The last that `init` or the session said. */
  said: string;
  /** The command was about to begin. */
  up: boolean;
  /** The first line of a panic. */
  panic?: string;
  /** The limit that was passed. */
  late?: number;
}

/** What `init` answers for exit codes above 125, which the shell gives to signals and to programs that are not there. */
const ABOVE = 126;

function verdictOf(end: End, { said, panic, late }: Seen, out: string): Omit<Result, 'seconds'> {
  const log = `see ${join(out, 'serial.log')}`;
  if (panic !== undefined) return { verdict: 'panic', rc: EXIT.NO_VERDICT, reason: `${panic} (${log})` };
  if (late !== undefined) return { verdict: 'timeout', rc: EXIT.TIMEOUT, reason: `not ended within ${late} s (${log})` };
  const { status } = end;
  // isa-debug-exit: QEMU ends with 2 * value + 1, and the value is one more than the exit code. QEMU itself fails with 1.
  const rc = status === null || status < 3 || status % 2 === 0 ? undefined : (status - 3) / 2;
  if (rc === undefined) return { verdict: 'none', rc: EXIT.NO_VERDICT, reason: `${whatBroke(end, said)} (${log})` };
  if (rc === 0) return { verdict: 'exit', rc };
  return { verdict: 'exit', rc: Math.min(rc, ABOVE - 1), reason: rc < ABOVE ? `the command ended with ${rc}` : said };
}

function whatBroke({ status, signal, complaint }: End, said: string): string {
  if (signal !== null) return `QEMU was killed by ${signal}`;
  if (complaint !== '' && status === 1) return `QEMU: ${complaint}`;
  if (said === '') return 'dom0 did not come up';
  return said === 'up' ? 'dom0 ended before the command did' : said;
}

function environment(xen: string, out: string): Record<string, string> {
  const { CI, NO_COLOR } = process.env;
  const programs = ['usr/lib/xen-4.17/bin', 'usr/bin'].map((name) => join(xen, name));
  return {
    MPT_LAB: 'xen',
    MPT_LAB_OUT: out,
    MPT_LAB_TREE: xen,
    LD_LIBRARY_PATH: join(xen, 'usr/lib/x86_64-linux-gnu'),
    PATH: [dirname(process.execPath), ...programs, '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'].join(':'),
    HOME: '/root',
    TERM: 'dumb',
    ...(CI === undefined ? {} : { CI }),
    ...(NO_COLOR === undefined ? {} : { NO_COLOR }),
  };
}

/** Opens what QEMU loads. The initramfs has no name from then on: nothing is left of it, however this process ends. */
function bootFiles(xen: string, out: string, job: Job): [kernel: number, initramfs: number] {
  makeFolder('the output folder', out);
  for (const name of ['serial.log', 'console.log']) writeFileSync(join(out, name), '');
  const folder = temporary(mkdtempSync(join(tmpdir(), 'mpt-lab-')));
  const path = join(folder, 'initramfs');
  writeFileSync(path, initramfs(xen, job));
  const fd = openSync(path, 'r');
  rmSync(folder, { recursive: true });
  return [openSync(join(xen, KERNEL), 'r'), fd];
}
