/** One-byte opcodes, and the few two-byte ones that belong to the same family. */
import * as alu from './alu.js';
import { condition, FLAG } from './alu.js';
import { exchange } from './bits.js';
import { type Cpu, REG, SEG, VECTOR } from './cpu.js';
import { A, binary, CL, compare, E, G, group, type Handler, I, Ib, Is, memoryOnly, move, O, ONE, unary, type Width, Z } from './forms.js';
import { divide, imulWide, mul, widen, widenDouble } from './muldiv.js';
import {
  callFar,
  callNear,
  enterFrame,
  leave,
  loop,
  popa,
  popf,
  popRm,
  popSegment,
  pusha,
  pushSegment,
  returnFar,
  returnNear,
} from './stack.js';
import { cmps, ins, lods, movs, outs, scas, stos } from './strings.js';
import { deliver, farJump, iret, loadSegment } from './system.js';
import { invalid, MODRM, NO_MODRM, nop, pair, row, unknown } from './table.js';

/** Enters them into the table. */
export function enterOneByteOpcodes(): void {
  // --- 00 to 3F, 80 to 83: the eight ALU operations ----------------------------------------------------------------------

  const ALU = [alu.add, alu.or, alu.adc, alu.sbb, alu.and, alu.sub, alu.xor, alu.sub] as const;
  const CMP = 7;
  const form = (n: number): typeof binary => (n === CMP ? compare : binary);

  ALU.forEach((operation, n) => {
    const base = n * 8;
    pair(base, MODRM, (w) => form(n)(operation, w, E, G));
    pair(base + 2, MODRM, (w) => form(n)(operation, w, G, E));
    pair(base + 4, NO_MODRM, (w) => form(n)(operation, w, A, I));
  });
  const aluGroup = (w: Width, source: typeof I): Handler =>
    group(
      ALU.map((operation, n) => form(n)(operation, w, E, source)),
      unknown,
    );
  row(0x80, 1, MODRM, aluGroup('b', I));
  row(0x81, 1, MODRM, aluGroup('v', I));
  row(0x82, 1, MODRM, aluGroup('b', I));
  row(0x83, 1, MODRM, aluGroup('v', Is));

  // --- segment registers on the stack ------------------------------------------------------------------------------------

  for (const [opcode, segment] of [
    [0x06, SEG.ES],
    [0x0e, SEG.CS],
    [0x16, SEG.SS],
    [0x1e, SEG.DS],
    [0x1a0, SEG.FS],
    [0x1a8, SEG.GS],
  ] as const) {
    row(opcode, 1, NO_MODRM, pushSegment(segment));
    if (segment !== SEG.CS) row(opcode + 1, 1, NO_MODRM, popSegment(segment));
  }

  // --- 40 to 6F ----------------------------------------------------------------------------------------------------------

  row(0x40, 8, NO_MODRM, unary(alu.inc, 'v', Z));
  row(0x48, 8, NO_MODRM, unary(alu.dec, 'v', Z));
  row(0x50, 8, NO_MODRM, (c) => c.push(c.size, Z.read(c, c.size)));
  row(0x58, 8, NO_MODRM, (c) => Z.write(c, c.size, c.pop(c.size)));
  row(0x60, 1, NO_MODRM, pusha);
  row(0x61, 1, NO_MODRM, popa);
  row(0x68, 1, NO_MODRM, (c) => c.push(c.size, c.fetch(c.size)));
  row(0x69, 1, MODRM, (c) => G.write(c, c.size, alu.imul(c, E.read(c, c.size), I.read(c, c.size), c.size)));
  row(0x6a, 1, NO_MODRM, (c) => c.push(c.size, c.fetch8s()));
  row(0x6b, 1, MODRM, (c) => G.write(c, c.size, alu.imul(c, E.read(c, c.size), Is.read(c, c.size), c.size)));
  pair(0x6c, NO_MODRM, ins);
  pair(0x6e, NO_MODRM, outs);

  // --- jumps, calls, returns ---------------------------------------------------------------------------------------------

  const jumpShort: Handler = (c) => {
    const displacement = c.fetch8s();
    c.jump(c.eip + displacement);
  };
  const jumpNear: Handler = (c) => {
    const displacement = alu.signExtend(c.fetch(c.size), c.size);
    c.jump(c.eip + displacement);
  };
  row(0x70, 16, NO_MODRM, (c) => {
    const displacement = c.fetch8s();
    if (condition(c, c.opcode & 15)) c.jump(c.eip + displacement);
  });
  row(0x180, 16, NO_MODRM, (c) => {
    const displacement = alu.signExtend(c.fetch(c.size), c.size);
    if (condition(c, c.opcode & 15)) c.jump(c.eip + displacement);
  });
  row(0xe0, 4, NO_MODRM, loop);
  row(0xe8, 1, NO_MODRM, (c) => {
    const displacement = alu.signExtend(c.fetch(c.size), c.size);
    callNear(c, c.eip + displacement);
  });
  row(0xe9, 1, NO_MODRM, jumpNear);
  row(0xeb, 1, NO_MODRM, jumpShort);
  const farPointer =
    (transfer: (c: Cpu, selector: number, offset: number) => void): Handler =>
    (c) => {
      const offset = c.fetch(c.size);
      transfer(c, c.fetch16(), offset);
    };
  row(0x9a, 1, NO_MODRM, farPointer(callFar));
  row(0xea, 1, NO_MODRM, farPointer(farJump));
  row(0xc2, 1, NO_MODRM, (c) => returnNear(c, c.fetch16()));
  row(0xc3, 1, NO_MODRM, (c) => returnNear(c, 0));
  row(0xca, 1, NO_MODRM, (c) => returnFar(c, c.fetch16()));
  row(0xcb, 1, NO_MODRM, (c) => returnFar(c, 0));
  row(0xc8, 1, NO_MODRM, enterFrame);
  row(0xc9, 1, NO_MODRM, leave);

  // --- moves -------------------------------------------------------------------------------------------------------------

  pair(0x84, MODRM, (w) => compare(alu.and, w, E, G));
  pair(0x86, MODRM, (w) => exchange(w, E, G));
  pair(0x88, MODRM, (w) => move(w, E, G));
  pair(0x8a, MODRM, (w) => move(w, G, E));
  /** A selector is stored as 16 bits, and zero-extended in a register. */
  row(0x8c, 1, MODRM, (c) => {
    if (c.reg > SEG.GS) throw c.exception(VECTOR.INVALID_OPCODE);
    c.writeRm(c.mod === 3 ? c.size : 2, c.selector[c.reg] as number);
  });
  row(
    0x8d,
    1,
    MODRM,
    memoryOnly((c) => G.write(c, c.size, c.offset), invalid),
  );
  row(0x8e, 1, MODRM, (c) => {
    if (c.reg > SEG.GS || c.reg === SEG.CS) throw c.exception(VECTOR.INVALID_OPCODE);
    loadSegment(c, c.reg, c.readRm(2));
  });
  row(0x8f, 1, NO_MODRM, popRm);
  row(0x90, 1, NO_MODRM, nop);
  row(0x91, 7, NO_MODRM, exchange('v', Z, A));
  row(0x98, 1, NO_MODRM, widen);
  row(0x99, 1, NO_MODRM, widenDouble);
  row(0x9b, 1, NO_MODRM, nop);
  row(0x9c, 1, NO_MODRM, (c) => c.push(c.size, c.flags));
  row(0x9d, 1, NO_MODRM, popf);
  row(0x9e, 1, NO_MODRM, (c) => {
    c.flags = (c.flags & ~0xd5) | (c.readRegister(4, 1) & 0xd5);
  });
  row(0x9f, 1, NO_MODRM, (c) => c.writeRegister(4, 1, c.flags));
  pair(0xa0, NO_MODRM, (w) => move(w, A, O));
  pair(0xa2, NO_MODRM, (w) => move(w, O, A));
  pair(0xa4, NO_MODRM, movs);
  pair(0xa6, NO_MODRM, cmps);
  pair(0xa8, NO_MODRM, (w) => compare(alu.and, w, A, I));
  pair(0xaa, NO_MODRM, stos);
  pair(0xac, NO_MODRM, lods);
  pair(0xae, NO_MODRM, scas);
  row(0xb0, 8, NO_MODRM, move('b', Z, I));
  row(0xb8, 8, NO_MODRM, move('v', Z, I));
  pair(0xc6, MODRM, (w) => group([move(w, E, I)], unknown));

  // --- shifts, and the unary groups --------------------------------------------------------------------------------------

  const SHIFTS = [alu.rol, alu.ror, alu.rcl, alu.rcr, alu.shl, alu.shr, alu.shl, alu.sar] as const;
  for (const [opcode, count] of [
    [0xc0, Ib],
    [0xd0, ONE],
    [0xd2, CL],
  ] as const)
    pair(opcode, MODRM, (w) =>
      group(
        SHIFTS.map((shift) => binary(shift, w, E, count)),
        unknown,
      ),
    );
  pair(0xf6, MODRM, (w) => {
    const test = compare(alu.and, w, E, I);
    return group([test, test, unary(alu.not, w, E), unary(alu.neg, w, E), mul(w), imulWide(w), divide(w, false), divide(w, true)], unknown);
  });
  row(0xfe, 1, MODRM, group([unary(alu.inc, 'b', E), unary(alu.dec, 'b', E)], unknown));
  const farIndirect = (transfer: (c: Cpu, selector: number, offset: number) => void): Handler =>
    memoryOnly((c) => {
      const offset = c.bus.load(c.linear, c.size);
      transfer(c, c.bus.load((c.linear + c.size) >>> 0, 2), offset);
    }, invalid);
  row(
    0xff,
    1,
    MODRM,
    group(
      [
        unary(alu.inc, 'v', E),
        unary(alu.dec, 'v', E),
        (c) => callNear(c, E.read(c, c.size)),
        farIndirect(callFar),
        (c) => c.jump(E.read(c, c.size)),
        farIndirect(farJump),
        (c) => c.push(c.size, E.read(c, c.size)),
      ],
      unknown,
    ),
  );

  // --- interrupts, ports, flags ------------------------------------------------------------------------------------------

  row(0xcc, 1, NO_MODRM, (c) => deliver(c, VECTOR.BREAKPOINT, undefined));
  row(0xcd, 1, NO_MODRM, (c) => deliver(c, c.fetch8(), undefined));
  row(0xce, 1, NO_MODRM, (c) => {
    if ((c.flags & FLAG.OF) !== 0) deliver(c, VECTOR.OVERFLOW, undefined);
  });
  row(0xcf, 1, NO_MODRM, iret);
  const portIn =
    (port: (c: Cpu) => number) =>
    (width: Width): Handler =>
    (c) => {
      const size = width === 'b' ? 1 : c.size;
      c.writeRegister(REG.EAX, size, c.bus.portIn(port(c), size));
    };
  const portOut =
    (port: (c: Cpu) => number) =>
    (width: Width): Handler =>
    (c) => {
      const size = width === 'b' ? 1 : c.size;
      c.bus.portOut(port(c), size, c.readRegister(REG.EAX, size));
    };
  const immediatePort = (c: Cpu): number => c.fetch8();
  const dx = (c: Cpu): number => c.readRegister(REG.EDX, 2);
  pair(0xe4, NO_MODRM, portIn(immediatePort));
  pair(0xe6, NO_MODRM, portOut(immediatePort));
  pair(0xec, NO_MODRM, portIn(dx));
  pair(0xee, NO_MODRM, portOut(dx));
  row(0xf4, 1, NO_MODRM, (c) => {
    c.halted = true;
    c.attention.raised = true;
  });
  const setFlag =
    (flag: number): Handler =>
    (c) => {
      c.flags |= flag;
    };
  const clearFlag =
    (flag: number): Handler =>
    (c) => {
      c.flags &= ~flag;
    };
  row(0xf5, 1, NO_MODRM, (c) => {
    c.flags ^= FLAG.CF;
  });
  row(0xf8, 1, NO_MODRM, clearFlag(FLAG.CF));
  row(0xf9, 1, NO_MODRM, setFlag(FLAG.CF));
  row(0xfa, 1, NO_MODRM, clearFlag(FLAG.IF));
  row(0xfb, 1, NO_MODRM, (c) => {
    // Only the change from off to on holds interrupts back for one instruction.
    if ((c.flags & FLAG.IF) === 0) c.shadow = true;
    c.flags |= FLAG.IF;
    c.attention.raised = true;
  });
  row(0xfc, 1, NO_MODRM, clearFlag(FLAG.DF));
  row(0xfd, 1, NO_MODRM, setFlag(FLAG.DF));

  // --- x87: only what start-up code does to it ---------------------------------------------------------------------------

  row(0xdb, 1, MODRM, (c) => {
    const isInitOrClear = c.mod === 3 && c.reg === 4 && (c.rm === 2 || c.rm === 3);
    if (!isInitOrClear) unknown(c);
  });
}
