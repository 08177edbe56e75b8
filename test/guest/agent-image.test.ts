/** The agent's bytes, listing and protocol constants are what agent.S says. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import {
  AGENT_COMMANDS,
  AGENT_COUNTERS_GPA,
  AGENT_FAULT_PORT,
  AGENT_FIRST_VECTOR,
  AGENT_FREE_GPA,
  AGENT_GPA,
  AGENT_IDT_GPA,
  AGENT_IMAGE,
  AGENT_PORT,
  AGENT_STUBS_GPA,
} from '../../src/guest/agent.js';

/** The build folder stands in the repository's root. */
const fromRoot = (path: string): string => fileURLToPath(new URL(`../../../${path}`, import.meta.url));
const source = readFileSync(fromRoot('src/guest/agent/agent.S'), 'utf8');
const listing = readFileSync(fromRoot('src/guest/agent/agent.lst'), 'utf8');

t.test('constants of agent.S and agent.ts agree', async (t) => {
  const assembled = Object.fromEntries([...source.matchAll(/^\.equ (\w+), +(\w+)/gm)].map(([, name, value]) => [name, Number(value)]));
  t.match(assembled, {
    AGENT_GPA,
    AGENT_PORT,
    AGENT_FAULT_PORT,
    AGENT_IDT: AGENT_IDT_GPA,
    AGENT_STUBS: AGENT_STUBS_GPA,
    AGENT_COUNTERS: AGENT_COUNTERS_GPA,
    AGENT_STACK_TOP: AGENT_FREE_GPA,
    FIRST_INTERRUPT: AGENT_FIRST_VECTOR,
  });
});

t.test('the jump table has the commands in opcode order', async (t) => {
  const table = source.slice(source.indexOf('\ncommands:\n'));
  const labels = [...table.matchAll(/\.long +(.+)/g)].flatMap(([, list = '']) => list.split(/, */));
  const byOpcode = Object.values(AGENT_COMMANDS).sort((a, b) => a.opcode - b.opcode);
  t.same(
    labels,
    byOpcode.map(({ name }) => name),
  );
  t.same(
    byOpcode.map(({ opcode }) => opcode),
    labels.map((_, index) => index),
  );
});

t.test('the image is what the listing shows, and stays below its tables', async (t) => {
  const listed: number[] = [];
  for (const [, at = '', bytes = ''] of listing.matchAll(/^([0-9a-f]{4,}): ((?:[0-9a-f]{2}(?: |$))+)/gm)) {
    t.equal(Number.parseInt(at, 16), AGENT_GPA + listed.length, `no gap before ${at}`);
    for (const byte of bytes.trim().split(' ')) listed.push(Number.parseInt(byte, 16));
  }
  t.same(listed, [...AGENT_IMAGE]);
  t.ok(AGENT_GPA + AGENT_IMAGE.length <= AGENT_IDT_GPA);
});

const binutils = ['as', 'ld', 'objcopy', 'nm', 'objdump'].filter((tool) => spawnSync(tool, ['--version']).error !== undefined);
t.test(
  'assembling again gives the same bytes and listing',
  { skip: binutils.length > 0 && `binutils are missing: ${binutils.join(', ')}` },
  async (t) => {
    const { status, stderr } = spawnSync(process.execPath, [fromRoot('scripts/assemble-agent.mjs'), '--check'], { encoding: 'utf8' });
    t.equal(stderr, '');
    t.equal(status, 0);
  },
);
