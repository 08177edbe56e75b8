/**
 * Malformed and hostile messages from a seed. Each whole message gets one answer; what cannot be answered ends the connection; nothing
 * throws, nothing is kept, and the next client is served. MPT_FUZZ_SEED and MPT_FUZZ_MESSAGES choose another run.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { MptError } from '../../src/core/errors.js';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { libcSockets } from '../../src/native/sockets.js';
import { SEAL } from '../../src/native/syscalls.js';
import { Command, HeaderFlag } from '../../src/vfio/protocol.js';
import { Random } from '../core/random.js';
import { type FdKind, Fuzzer, type Step } from './fuzz-messages.js';
import { behave, TARGETS, type Target } from './fuzz-targets.js';
import {
  closeFd,
  eventfd,
  hex,
  mappings,
  memfd,
  message,
  OURS,
  openFds,
  Peer,
  type Received,
  u32,
  u64,
  unsealable,
  versionMessage,
} from './support.js';

const SEED = Number(process.env['MPT_FUZZ_SEED'] ?? 20_26);
const MESSAGES = Number(process.env['MPT_FUZZ_MESSAGES'] ?? 3500);
const STEPS_MAX = 60;
const GUEST_PAGES = 20;
const PAGE = 0x1000;

const folder = mkdtempSync(join(tmpdir(), 'mpt-fuzz-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
spawnSync('mkfifo', [join(folder, 'fifo')]);
const fifo = openSync(join(folder, 'fifo'), 'r+');
const directory = openSync(folder, 'r');
const nothing = openSync('/dev/null', 'r');
const pair = new Int32Array(2);
libcSockets.socketpair(pair);
/** Descriptors that stay; the others are made for each message. */
const STANDING: Partial<Record<FdKind, number>> = { fifo, directory, null: nothing, socket: pair[0] as number };
t.teardown(() => {
  for (const fd of [fifo, directory, nothing]) closeSync(fd);
  for (const fd of pair) closeFd(fd);
});

const PLACED = [
  [0x10, 0xe000_0000],
  [0x14, 0],
  [0x18, 0xc000_0000],
  [0x1c, 0],
  [0x04, 6],
].map(([offset, value]) => message(2, Command.REGION_WRITE, [...u64(offset as number), ...u32(7), ...u32(4), ...u32(value as number)]));

/** One client's conversation with a target, and what it holds meanwhile. */
class Conversation {
  readonly target: Target;
  readonly peer: Peer;
  readonly #random: Random;
  /** Files that it shortens later, and views that the device may have kept. */
  readonly #loose: number[] = [];
  readonly #views: Uint8Array[] = [];
  readonly sent: string[] = [];

  constructor(target: Target, random: Random, begin = true) {
    this.target = target;
    this.#random = random;
    this.peer = new Peer(target.connect());
    if (!begin) return;
    this.peer.send(versionMessage(1));
    target.pump();
    if (this.peer.take().length !== 1) throw new Error('VERSION was not answered');
    // Mostly the BARs are where a guest puts them: then accesses reach the device's registers.
    if (random.below(4) === 0) return;
    for (const bytes of PLACED) this.peer.send(bytes);
    target.pump();
    if (this.peer.take().some(({ errno }) => errno !== 0)) throw new Error('the BARs cannot be placed');
  }

  /** Sends one message, whole or in pieces. @returns what was answered */
  step({ bytes, fds }: Pick<Step, 'bytes' | 'fds'>): Received[] {
    const random = this.#random;
    this.sent.push(`${hex(bytes.subarray(0, 64))}${bytes.length > 64 ? '…' : ''} [${fds}]`);
    const own = fds.map((kind) => this.#make(kind));
    const cut = random.below(10) === 0 ? random.below(bytes.length) : 0;
    if (cut > 0) {
      this.peer.send(bytes.slice(0, cut), own);
      this.target.pump();
      this.peer.send(bytes.slice(cut));
    } else this.peer.send(bytes, own);
    for (const [i, fd] of own.entries()) if (STANDING[fds[i] as FdKind] === undefined && !this.#loose.includes(fd)) closeFd(fd);
    this.target.pump();
    const received = this.peer.take();
    for (const fd of received.flatMap((answer) => answer.fds)) closeFd(fd);
    return received.filter(({ flags }) => (flags & HeaderFlag.TYPE_MASK) === HeaderFlag.REPLY);
  }

  /** What the device does with the client's memory meanwhile. */
  touch(): void {
    const { memory } = this.target;
    const random = this.#random;
    if (this.#loose.length > 0 && random.below(4) === 0) sys.ftruncate(random.pick(this.#loose), PAGE * random.below(3));
    const gpa = PAGE * random.below(GUEST_PAGES);
    const { kind } = memory.mapAt(gpa) ?? {};
    if (kind !== undefined && kind !== 'message') {
      const bytes = new Uint8Array(8);
      for (const access of [() => memory.read(gpa, bytes, 0, 8), () => memory.write(gpa, bytes, 0, 8)])
        try {
          access();
        } catch (error) {
          if (!MptError.is(error) || error.code !== 'NOT_RAM') throw error;
        }
      if (memory.find(gpa) !== undefined && this.#views.length < 16) this.#views.push(memory.view(gpa, 16));
    }
    for (const view of this.#views) view[random.below(16)] = 1;
  }

  close(): void {
    this.peer.close();
    for (const fd of this.#loose) closeFd(fd);
    this.target.pump();
  }

  #make(kind: FdKind): number {
    const size = PAGE * (1 + this.#random.below(4));
    switch (kind) {
      case 'memfd':
        return memfd(size);
      case 'sealed':
        return memfd(size, SEAL.SHRINK | SEAL.GROW | SEAL.SEAL);
      case 'frozen':
        return memfd(size, SEAL.WRITE);
      case 'empty':
        return memfd(0);
      case 'loose': {
        const fd = unsealable(size);
        this.#loose.push(fd);
        return fd;
      }
      case 'readonly': {
        const fd = memfd(size);
        const reading = sys.open(`/proc/self/fd/${fd}`, 0);
        closeFd(fd);
        return reading;
      }
      case 'eventfd':
        return eventfd();
      default:
        return STANDING[kind] as number;
    }
  }
}

/** What is wrong with the answers to a message, or undefined. */
function wrong(step: Step, answers: readonly Received[], ended: string | undefined): string | undefined {
  for (const { flags, errno, body } of answers) {
    const failed = (flags & HeaderFlag.ERROR) !== 0;
    if (failed !== errno > 0 || errno > 133 || (failed && body.length > 0)) return `an answer with flags ${flags} and errno ${errno}`;
  }
  if (!step.whole) return undefined;
  if (ended !== undefined) return `the connection ended: ${ended}`;
  const expected = (step.flags & HeaderFlag.NO_REPLY) === 0 ? 1 : 0;
  if (answers.length !== expected) return `${answers.length} answers, not ${expected}`;
  const [answer] = answers;
  return answer === undefined || (answer.id === step.id && answer.command === step.command) ? undefined : 'an answer to something else';
}

function fuzz(t: Test, target: Target, seed: number): { messages: number; errors: number; ends: Map<string, number> } {
  const random = new Random(seed);
  const regions = [...target.device.regions.values()].map(({ index, size }) => [index, size] as const);
  const fuzzer = new Fuzzer(random, { regions });
  const ends = new Map<string, number>();
  let [messages, errors] = [0, 0];
  const before = openFds();
  while (messages < MESSAGES) {
    const conversation = new Conversation(target, random);
    try {
      for (let left = 1 + random.below(STEPS_MAX); left > 0 && target.ended() === undefined; left--) {
        const step = fuzzer.next();
        messages++;
        const answers = conversation.step(step);
        errors += answers.filter(({ errno }) => errno > 0).length;
        const complaint = wrong(step, answers, target.ended());
        if (complaint !== undefined) throw new Error(complaint);
        conversation.touch();
        if (!step.whole) break;
      }
    } catch (error) {
      t.fail(`${target.name}, seed ${seed}, message ${messages}: ${error instanceof Error ? error.stack : error}`, {
        sent: conversation.sent,
      });
      conversation.close();
      return { messages, errors, ends };
    }
    const why = target.ended() ?? 'left by the client';
    ends.set(why, (ends.get(why) ?? 0) + 1);
    conversation.close();
    if (openFds() !== before || target.memory.count > 0) {
      t.fail(`${target.name}, seed ${seed}, message ${messages}: something is kept`, { sent: conversation.sent });
      break;
    }
  }
  return { messages, errors, ends };
}

/** A valid conversation with one of everything. */
const VALID: readonly (readonly [bytes: Uint8Array, fds: readonly FdKind[]])[] = [
  [versionMessage(1, { write_multiple: true }), []],
  [message(2, Command.DMA_MAP, [...u32(32), ...u32(3), ...u64(0), ...u64(0), ...u64(PAGE)]), ['memfd']],
  [message(3, Command.DMA_MAP, [...u32(32), ...u32(3), ...u64(0), ...u64(PAGE), ...u64(PAGE)]), ['loose']],
  [message(4, Command.DMA_MAP, [...u32(32), ...u32(1), ...u64(0), ...u64(0xfffc_0000), ...u64(0x4_0000)]), []],
  [message(5, Command.DEVICE_GET_INFO, [...u32(16), ...u32(0), ...u64(0)]), []],
  [message(6, Command.DEVICE_GET_REGION_INFO, [...u32(32), ...u32(0), ...u32(0), ...u32(0), ...u64(0), ...u64(0)]), []],
  [message(7, Command.DEVICE_SET_IRQS, [...u32(20), ...u32(0x24), ...u32(0), ...u32(0), ...u32(1)]), ['eventfd']],
  [message(8, Command.DEVICE_SET_IRQS, [...u32(20), ...u32(0x14), ...u32(0), ...u32(0), ...u32(1)]), ['eventfd']],
  ...PLACED.map((bytes) => [bytes, []] as const),
  [message(9, Command.REGION_READ, [...u64(0), ...u32(7), ...u32(256)]), []],
  [message(10, Command.REGION_WRITE, [...u64(0), ...u32(0), ...u32(4), 1, 2, 3, 4], HeaderFlag.NO_REPLY), []],
  [message(11, Command.REGION_WRITE_MULTI, [...u64(1), ...u64(8), ...u32(0), ...u32(4), 1, 2, 3, 4, 0, 0, 0, 0], HeaderFlag.NO_REPLY), []],
  [message(12, Command.DMA_UNMAP, [...u32(24), ...u32(0), ...u64(0), ...u64(PAGE)]), []],
  [message(13, Command.DEVICE_RESET), []],
];

for (const [i, open] of TARGETS.entries()) {
  t.test(`target ${i}: a client that goes after any byte of a conversation`, async (t) => {
    const target = open(folder);
    const before = openFds();
    let clients = 0;
    const talk = (whole: number, cut: number): void => {
      const conversation = new Conversation(target, new Random(SEED), false);
      for (const [bytes, fds] of VALID.slice(0, whole)) conversation.step({ bytes, fds });
      const next = VALID[whole];
      if (cut > 0 && next !== undefined) conversation.step({ bytes: next[0].subarray(0, cut), fds: next[1] });
      if (target.ended() !== undefined) t.fail(`after ${whole} messages and ${cut} bytes: ${target.ended()}`);
      conversation.close();
      if (target.memory.count > 0 || openFds() !== before) t.fail(`after ${whole} messages and ${cut} bytes: something is kept`);
      clients++;
    };
    for (const [whole, [bytes]] of [...VALID, [new Uint8Array(1), []] as const].entries())
      for (const cut of new Set([0, 7, 16, bytes.length - 1])) if (cut < bytes.length) talk(whole, cut);
    t.ok(clients > 60, `${clients} clients`);
    t.doesNotThrow(() => behave(target), 'a well-behaved client is served');
    target.close();
    t.equal(target.memory.count, 0);
  });

  t.test(`target ${i}`, async (t) => {
    const before = { fds: openFds(), maps: mappings(OURS) };
    const target = open(folder);
    const held = openFds();
    const since = performance.now();
    const { messages, errors, ends } = fuzz(t, target, SEED + i);
    const told = [...ends].map(([why, count]) => `${why} ${count}`).join(', ');
    t.comment(
      `${target.name}: seed ${SEED + i}, ${messages} messages, ${errors} errors, ${Math.round(performance.now() - since)} ms; ${told}`,
    );
    t.ok(messages >= MESSAGES, `${messages} messages`);
    t.ok(errors > messages / 4, `${errors} were refused`);
    t.equal(openFds(), held, 'no descriptor is kept');
    t.doesNotThrow(() => behave(target), 'a well-behaved client is served');
    target.close();
    t.same({ fds: openFds(), maps: mappings(OURS) }, before, 'nothing is left of the server');
  });
}
