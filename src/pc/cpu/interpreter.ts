/** The loop that runs the vCPU. */

import { SUSPENDED } from '../bus.js';
import { type Cpu, GUEST_EXCEPTION, SEG, VECTOR } from './cpu.js';
import type { Handler } from './forms.js';
import { enterOneByteOpcodes } from './opcodes.js';
import { enterTwoByteOpcodes } from './opcodes-0f.js';
import { deliver, takeInterrupts } from './system.js';
import { HANDLERS, HAS_MODRM } from './table.js';

enterOneByteOpcodes();
enterTwoByteOpcodes();

/** Longest instruction in bytes; what is longer is a general protection fault. */
const LENGTH_MAX = 15;
const TWO_BYTE = 0x0f;

/** What a prefix byte sets. */
const PREFIXES: Readonly<Record<number, (c: Cpu) => void>> = {
  38: (c) => {
    c.segment = SEG.ES;
  },
  46: (c) => {
    c.segment = SEG.CS;
  },
  54: (c) => {
    c.segment = SEG.SS;
  },
  62: (c) => {
    c.segment = SEG.DS;
  },
  100: (c) => {
    c.segment = SEG.FS;
  },
  101: (c) => {
    c.segment = SEG.GS;
  },
  102: (c) => {
    c.size = c.code32 ? 2 : 4;
  },
  103: (c) => {
    c.address32 = !c.code32;
  },
  240: () => undefined,
  242: (c) => {
    c.repeat = 0xf2;
  },
  243: (c) => {
    c.repeat = 0xf3;
  },
};
const IS_PREFIX = new Uint8Array(256);
for (const byte of Object.keys(PREFIXES)) IS_PREFIX[Number(byte)] = 1;

/**
 * Runs at most `budget` instructions. Returns earlier when an access waits to be reported (`bus.hasRequest`) or the
 * vCPU is halted and no interrupt can wake it.
 * @returns instructions executed
 * @throws MptError GUEST_FAULT when the guest does what cannot be simulated; the vCPU stays at that instruction
 */
export function run(c: Cpu, budget: number): number {
  let left = budget;
  while (left > 0) {
    try {
      while (left > 0) {
        if (c.attention.raised && !attend(c)) break;
        left--;
        step(c);
        c.instructions++;
      }
      break;
    } catch (thrown) {
      c.eip = c.start;
      if (thrown === SUSPENDED) {
        c.suspended = true;
        c.attention.raised = true;
        break;
      }
      if (thrown !== GUEST_EXCEPTION) throw thrown;
      deliver(c, c.vector, c.hasErrorCode && c.protectedMode ? c.errorCode : undefined);
      c.attention.raised = true;
    }
  }
  return budget - left;
}

/** Everything that happens between instructions. @returns false when the vCPU may not go on */
function attend(c: Cpu): boolean {
  const { attention, bus } = c;
  // A half-done instruction runs again before anything else may happen.
  if (c.suspended) {
    if (bus.waiting) return false;
    c.suspended = false;
    return true;
  }
  bus.retire();
  if (bus.hasRequest) return false;
  if (c.shadow) {
    c.shadow = false;
    return true;
  }
  takeInterrupts(c);
  if (bus.hasRequest || c.halted) return false;
  attention.raised = false;
  return true;
}

function step(c: Cpu): void {
  c.bus.begin();
  c.start = c.eip;
  c.size = c.code32 ? 4 : 2;
  c.address32 = c.code32;
  c.segment = -1;
  c.repeat = 0;
  let opcode = c.fetch8();
  if (IS_PREFIX[opcode] !== 0) opcode = prefixes(c, opcode);
  if (opcode === TWO_BYTE) opcode = 256 + c.fetch8();
  c.opcode = opcode;
  if (HAS_MODRM[opcode] !== 0) c.decodeModRm();
  (HANDLERS[opcode] as Handler)(c);
}

/** Takes prefixes in any order, the last of a kind counts. @returns the opcode after them */
function prefixes(c: Cpu, first: number): number {
  let byte = first;
  for (let length = 1; length < LENGTH_MAX; length++) {
    (PREFIXES[byte] as (c: Cpu) => void)(c);
    byte = c.fetch8();
    if (IS_PREFIX[byte] === 0) return byte;
  }
  throw c.exception(VECTOR.PROTECTION, 0);
}
