/**
 * Assembles the guest agent: src/guest/agent/agent.S -> src/guest/agent-image.ts (bytes) and src/guest/agent/agent.lst
 * (disassembly). Needs GNU as, ld, objcopy, nm and objdump.
 *
 *   node scripts/assemble-agent.mjs           writes both files
 *   node scripts/assemble-agent.mjs --check   compares; exit 1 and the name of what differs
 *
 * Exit 2: a tool is missing or failed.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = path('../src/guest/agent/agent.S');
const LISTING = path('../src/guest/agent/agent.lst');
const IMAGE = path('../src/guest/agent-image.ts');
const BYTES_PER_ROW = 16;

function path(relative) {
  return fileURLToPath(new URL(relative, import.meta.url));
}

function run(tool, ...args) {
  return execFileSync(tool, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

const hex = (value, digits = 0) => value.toString(16).padStart(digits, '0');

/** Bytes, load address and symbols of the agent. */
function assemble(directory) {
  const object = join(directory, 'agent.o');
  const elf = join(directory, 'agent.elf');
  const binary = join(directory, 'agent.bin');
  run('as', '--32', '-o', object, SOURCE);
  const address = symbols(object).AGENT_GPA;
  run('ld', '-m', 'elf_i386', `-Ttext=0x${hex(address)}`, '-e', 'start', '-o', elf, object);
  run('objcopy', '-O', 'binary', '-j', '.text', elf, binary);
  return { elf, address, bytes: readFileSync(binary), symbols: symbols(elf) };
}

function symbols(file) {
  const lines = run('nm', file).trim().split('\n');
  return Object.fromEntries(lines.map((line) => [line.slice(11), Number.parseInt(line.slice(0, 8), 16)]));
}

/** Disassembly of [from, to): addresses, bytes, instructions; spaces and headers as we want them, whatever the version. */
function disassemble(elf, mode, from, to) {
  const text = run('objdump', '-d', '-w', '-M', mode, `--start-address=${from}`, `--stop-address=${to}`, elf);
  return text
    .split('\n')
    .filter((line) => /^[0-9a-f]{8} <|^ +[0-9a-f]+:/.test(line))
    .flatMap((line) => {
      if (!line.startsWith(' ')) return ['', line];
      const [place, bytes, ...instruction] = line.split('\t').map((part) => part.trim());
      return `${place} ${bytes.padEnd(30)} ${instruction.join(' ').replace(/\s+/g, ' ')}`.trimEnd();
    });
}

function listing({ elf, address, bytes, symbols }) {
  const end = address + bytes.length;
  const rows = [];
  for (let at = symbols.data; at < end; at += 4) {
    const row = bytes.subarray(at - address, Math.min(at - address + 4, bytes.length));
    rows.push(`${hex(at)}: ${[...row].map((byte) => hex(byte, 2)).join(' ')}`);
  }
  return [
    `Guest agent, ${bytes.length} bytes at 0x${hex(address)}. Made by scripts/assemble-agent.mjs from agent.S.`,
    '',
    '== 16-bit real mode ==',
    ...disassemble(elf, 'i8086,intel', symbols.start, symbols.protected),
    '',
    '== 32-bit protected mode ==',
    ...disassemble(elf, 'i386,intel', symbols.protected, symbols.data),
    '',
    '== data: descriptor table, its pointer, the interrupt table pointer, jump table ==',
    ...rows,
    '',
  ].join('\n');
}

function imageModule({ address, bytes }) {
  const rows = [];
  for (let at = 0; at < bytes.length; at += BYTES_PER_ROW) {
    const row = [...bytes.subarray(at, at + BYTES_PER_ROW)].map((byte) => hex(byte, 2)).join(' ');
    rows.push(`  '${row}', // 0x${hex(address + at)}`);
  }
  return `/**
 * The guest agent's machine code, to be loaded at 0x${hex(address)}. Made by scripts/assemble-agent.mjs from agent/agent.S;
 * agent/agent.lst is its disassembly. A test assembles it again and compares.
 */
const ROWS = [
${rows.join('\n')}
];

/** ${bytes.length} bytes, entered at the first in real mode. */
export const AGENT_IMAGE: Uint8Array = Uint8Array.from(ROWS.join(' ').split(' '), (byte) => Number.parseInt(byte, 16));
`;
}

function main() {
  const directory = mkdtempSync(join(tmpdir(), 'agent-'));
  try {
    const agent = assemble(directory);
    const outputs = [
      [IMAGE, imageModule(agent)],
      [LISTING, listing(agent)],
    ];
    if (process.argv.includes('--check')) {
      const differing = outputs.filter(([file, text]) => readFileSync(file, 'utf8') !== text).map(([file]) => file);
      for (const file of differing) console.error(`${file} is not what agent.S assembles to; run node scripts/assemble-agent.mjs`);
      return differing.length > 0 ? 1 : 0;
    }
    for (const [file, text] of outputs) writeFileSync(file, text);
    return 0;
  } catch (error) {
    console.error(error.stderr || error.message);
    return 2;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

process.exitCode = main();
