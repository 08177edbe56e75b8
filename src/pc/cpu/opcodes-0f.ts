/** Opcodes after 0x0F: system instructions, MMX moves, conditions, extensions and bits. */
import * as alu from './alu.js';
import { condition } from './alu.js';
import { bitGroup, bitScan, bitTest, bswap, cmpxchg, xadd } from './bits.js';
import { VECTOR } from './cpu.js';
import { binary, E, G, group, memoryOnly } from './forms.js';
import { cpuid, loadTable, readMsr, readTimestamp, storeTable, writeControl, writeMsr } from './system.js';
import { invalid, MODRM, NO_MODRM, nop, pair, row, unknown } from './table.js';

/** Enters them into the table, at 256 + opcode. */
export function enterTwoByteOpcodes(): void {
  // --- 0F: system --------------------------------------------------------------------------------------------------------

  row(
    0x101,
    1,
    MODRM,
    group(
      [
        memoryOnly((c) => storeTable(c, 'gdt', c.linear), invalid),
        memoryOnly((c) => storeTable(c, 'idt', c.linear), invalid),
        memoryOnly((c) => loadTable(c, 'gdt', c.linear), invalid),
        memoryOnly((c) => loadTable(c, 'idt', c.linear), invalid),
        (c) => c.writeRm(c.mod === 3 ? c.size : 2, c.mod === 3 && c.size === 4 ? (c.cr[0] as number) : (c.cr[0] as number) & 0xffff),
        undefined,
        // LMSW sets PE but cannot clear it.
        (c) => writeControl(c, 0, ((c.cr[0] as number) & ~0xe) | (c.readRm(2) & 0xf)),
        memoryOnly(nop, invalid),
      ],
      unknown,
    ),
  );
  row(0x106, 1, NO_MODRM, (c) => {
    c.cr[0] = (c.cr[0] as number) & ~8;
  });
  row(0x108, 2, NO_MODRM, nop); // INVD, WBINVD: there are no caches
  row(0x10b, 1, NO_MODRM, invalid); // UD2
  row(0x118, 8, MODRM, nop); // prefetches and long NOPs
  row(0x120, 1, MODRM, (c) => {
    if (c.reg === 1 || c.reg > 4) throw c.exception(VECTOR.INVALID_OPCODE);
    c.r32[c.rm] = c.cr[c.reg] as number;
  });
  row(0x122, 1, MODRM, (c) => writeControl(c, c.reg, c.r32[c.rm] as number));
  row(0x130, 1, NO_MODRM, writeMsr);
  row(0x131, 1, NO_MODRM, readTimestamp);
  row(0x132, 1, NO_MODRM, readMsr);
  row(0x1a2, 1, NO_MODRM, cpuid);

  // --- 0F: MMX moves, conditions, extensions, bits -----------------------------------------------------------------------

  /** MOVQ mm, mm/m64. */
  row(0x16f, 1, MODRM, (c) => {
    const fromRegister = c.mod === 3;
    const low = fromRegister ? (c.mm[c.rm * 2] as number) : c.bus.load64(c.linear);
    c.mm[c.reg * 2 + 1] = fromRegister ? (c.mm[c.rm * 2 + 1] as number) : c.bus.hi;
    c.mm[c.reg * 2] = low;
  });
  /** MOVQ mm/m64, mm. */
  row(0x17f, 1, MODRM, (c) => {
    const low = c.mm[c.reg * 2] as number;
    const high = c.mm[c.reg * 2 + 1] as number;
    if (c.mod !== 3) c.bus.store64(c.linear, low, high);
    else {
      c.mm[c.rm * 2] = low;
      c.mm[c.rm * 2 + 1] = high;
    }
  });
  row(0x177, 1, NO_MODRM, nop); // EMMS
  row(0x140, 16, MODRM, (c) => {
    const value = c.readRm(c.size);
    if (condition(c, c.opcode & 15)) G.write(c, c.size, value);
  });
  row(0x190, 16, MODRM, (c) => c.writeRm(1, condition(c, c.opcode & 15) ? 1 : 0));
  for (const [opcode, from] of [
    [0x1b6, 1],
    [0x1b7, 2],
  ] as const) {
    row(opcode, 1, MODRM, (c) => G.write(c, c.size, c.readRm(from)));
    row(opcode + 8, 1, MODRM, (c) => G.write(c, c.size, alu.signExtend(c.readRm(from), from)));
  }
  row(0x1af, 1, MODRM, binary(alu.imul, 'v', G, E));
  ['bt', 'bts', 'btr', 'btc'].forEach((name, n) => {
    row(0x1a3 + n * 8, 1, MODRM, bitTest(name as 'bt' | 'bts' | 'btr' | 'btc'));
  });
  row(0x1ba, 1, MODRM, group(bitGroup, unknown));
  row(0x1bc, 1, MODRM, bitScan('forward'));
  row(0x1bd, 1, MODRM, bitScan('reverse'));
  pair(0x1b0, MODRM, cmpxchg);
  pair(0x1c0, MODRM, xadd);
  row(0x1c8, 8, NO_MODRM, bswap);
  /** LFENCE, MFENCE, SFENCE: accesses are in program order anyway. */
  row(0x1ae, 1, MODRM, (c) => {
    if (c.mod !== 3 || c.reg < 5) unknown(c);
  });
}
