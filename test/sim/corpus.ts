/**
 * A corpus of instructions with operands at the edges, for comparison with KVM. `undefinedFlags` names the
 * flags that the manual leaves undefined for the case.
 */
import type { Case, State } from './guest-code.js';
import { MEMORY_GPA } from './guest-code.js';

export interface CorpusCase extends Case {
  readonly undefinedFlags: number;
}

const CF = 1;
const PF = 4;
const AF = 0x10;
const ZF = 0x40;
const SF = 0x80;
const OF = 0x800;
const STATUS = CF | PF | AF | ZF | SF | OF;

const VALUES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1234_5678, 0xdead_beef];
const PAIRS: readonly (readonly [number, number])[] = [
  [0, 0],
  [1, 0xffff_ffff],
  [0x7fff_7f7f, 1],
  [0x8000_8080, 1],
  [0x8000_8080, 0x8000_8080],
  [0x0f0f_0f0f, 0xf0f0_f1f1],
  [0xffff_ffff, 0xffff_ffff],
  [0x1234_5678, 0x9abc_def0],
  [0x0000_0080, 0x7fff_ff7f],
];
const FLAGS = [2, 2 | STATUS];
const COUNTS = [0, 1, 2, 7, 8, 9, 15, 16, 17, 18, 31, 32, 33];

const dword = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];

/** Byte, word and dword forms: prefix and low opcode bit. */
const WIDTHS = [
  { width: 8, prefix: [], bit: 0 },
  { width: 16, prefix: [0x66], bit: 1 },
  { width: 32, prefix: [], bit: 1 },
] as const;

const cases: CorpusCase[] = [];
function add(name: string, code: readonly number[], before: Partial<State>, undefinedFlags = 0): void {
  cases.push({ name: `${name} ${JSON.stringify(before)}`, code, before, undefinedFlags });
}

const ALU = ['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp'];
const isLogic = (name: string): boolean => name === 'or' || name === 'and' || name === 'xor' || name === 'test';
const memory = [0x05, ...dword(MEMORY_GPA)]; // ModRM: [0x3000], reg field 0 (EAX)

for (const { width, prefix, bit } of WIDTHS)
  for (const flags of FLAGS) {
    ALU.forEach((name, n) => {
      const undefinedFlags = isLogic(name) ? AF : 0;
      for (const [a, b] of PAIRS) {
        add(`${name}${width} E,G`, [...prefix, n * 8 + bit, 0xd8], { flags, eax: a, ebx: b }, undefinedFlags);
        add(`${name}${width} m,G`, [...prefix, n * 8 + bit, ...memory], { flags, eax: b, m0: a }, undefinedFlags);
        add(`${name}${width} G,m`, [...prefix, n * 8 + 2 + bit, ...memory], { flags, eax: a, m0: b }, undefinedFlags);
      }
      const immediate = width === 8 ? [0x85] : width === 16 ? [0x85, 0xf1] : dword(0xf234_5685);
      add(`${name}${width} A,I`, [...prefix, n * 8 + 4 + bit, ...immediate], { flags, eax: 0x8765_4321 }, undefinedFlags);
      add(`${name}${width} E,I`, [...prefix, 0x80 + bit, 0xc3 | (n << 3), ...immediate], { flags, ebx: 0x8765_4321 }, undefinedFlags);
      if (bit === 1) add(`${name}${width} E,Is`, [...prefix, 0x83, 0xc3 | (n << 3), 0x85], { flags, ebx: 0x8765_4321 }, undefinedFlags);
    });
    for (const [a, b] of PAIRS) {
      add(`test${width}`, [...prefix, 0x84 + bit, 0xd8], { flags, eax: a, ebx: b }, AF);
      add(`xchg${width}`, [...prefix, 0x86 + bit, 0xd8], { flags, eax: a, ebx: b });
      add(`xchg${width} m`, [...prefix, 0x86 + bit, ...memory], { flags, eax: a, m0: b });
      add(`xadd${width}`, [...prefix, 0x0f, 0xc0 + bit, 0xd8], { flags, eax: a, ebx: b });
      add(`cmpxchg${width}`, [...prefix, 0x0f, 0xb0 + bit, 0xcb], { flags, eax: a, ebx: b, ecx: 0x5555_5555 });
      add(`cmpxchg${width} m`, [...prefix, 0x0f, 0xb0 + bit, 0x0d, ...dword(MEMORY_GPA)], { flags, eax: a, m0: a ^ (b & 1), ecx: 7 });
    }
    for (const a of VALUES) {
      add(`not${width}`, [...prefix, 0xf6 + bit, 0xd0], { flags, eax: a });
      add(`neg${width}`, [...prefix, 0xf6 + bit, 0xd8], { flags, eax: a });
      add(`inc${width}`, [...prefix, 0xfe + bit, 0xc0], { flags, eax: a });
      add(`dec${width}`, [...prefix, 0xfe + bit, 0xc8], { flags, eax: a });
      add(`scas${width}`, [...prefix, 0xae + bit], { flags, eax: a, m1: 0x8080_8080 });
    }
    ['rol', 'ror', 'rcl', 'rcr', 'shl', 'shr', 'sal', 'sar'].forEach((name, n) => {
      for (const a of [1, 0x8081_8081, 0x7fff_ff7f, 0xffff_ffff])
        for (const count of COUNTS) {
          const masked = count & 31;
          const rotate = n < 4;
          const effective = n === 2 || n === 3 ? masked % (width + 1) : masked;
          let undefinedFlags = effective === 1 || masked === 0 ? 0 : OF;
          if (!rotate && masked !== 0) undefinedFlags |= AF;
          if (!rotate && name !== 'sar' && masked >= width) undefinedFlags |= CF;
          add(`${name}${width} cl`, [...prefix, 0xd2 + bit, 0xc0 | (n << 3)], { flags, eax: a, ecx: count }, undefinedFlags);
        }
      add(`${name}${width} 1`, [...prefix, 0xd0 + bit, 0xc0 | (n << 3)], { flags, eax: 0xc0c0_c0c1 }, n < 4 ? 0 : AF);
      add(`${name}${width} imm`, [...prefix, 0xc0 + bit, 0xc0 | (n << 3), 3], { flags, eax: 0xc0c0_c0c1 }, OF | AF);
    });
    for (const [a, b] of PAIRS) {
      add(`mul${width}`, [...prefix, 0xf6 + bit, 0xe3], { flags, eax: a, ebx: b }, SF | ZF | AF | PF);
      add(`imul${width}`, [...prefix, 0xf6 + bit, 0xeb], { flags, eax: a, ebx: b }, SF | ZF | AF | PF);
    }
    for (const [high, low, d] of [
      [0, 100, 7],
      [0, 0x7f, 0xff],
      [0xffff_ffff, 0xffff_ff9c, 7],
      [0xffff_ffff, 0xffff_ff9c, 0xffff_fff9],
      [0, 0x1234, 0x7f7f_7f7f],
    ] as const) {
      const n = width === 8 ? { eax: low & 0xffff, edx: 0x5a5a } : { eax: low, edx: high };
      // Unsigned division only where the quotient fits.
      if (high === 0) add(`div${width}`, [...prefix, 0xf6 + bit, 0xf3], { flags, ...n, ebx: d }, STATUS);
      add(`idiv${width}`, [...prefix, 0xf6 + bit, 0xfb], { flags, ...n, ebx: d }, STATUS);
    }
    if (bit === 0) continue;
    for (const [a, b] of PAIRS) {
      add(`imul${width} G,E`, [...prefix, 0x0f, 0xaf, 0xc3], { flags, eax: a, ebx: b }, SF | ZF | AF | PF);
      add(`imul${width} G,E,Is`, [...prefix, 0x6b, 0xc3, 0x9c], { flags, ebx: b }, SF | ZF | AF | PF);
    }
    for (const a of VALUES) {
      const scanned = { flags, ebx: a, eax: 0x1111_2222 };
      const zero = (width === 16 ? a & 0xffff : a) === 0;
      // A zero source leaves the destination undefined on paper; every processor keeps it.
      add(`bsf${width}`, [...prefix, 0x0f, 0xbc, 0xc3], scanned, STATUS & ~ZF);
      if (!zero) add(`bsr${width}`, [...prefix, 0x0f, 0xbd, 0xc3], scanned, STATUS & ~ZF);
      add(`movzx${width} b`, [...prefix, 0x0f, 0xb6, 0xc3], scanned);
      add(`movsx${width} b`, [...prefix, 0x0f, 0xbe, 0xc3], scanned);
      add(`cbw${width}`, [...prefix, 0x98], { flags, eax: a });
      add(`cwd${width}`, [...prefix, 0x99], { flags, eax: a, edx: 0x3333_3333 });
    }
    ['bt', 'bts', 'btr', 'btc'].forEach((name, n) => {
      for (const index of [0, 5, 15, 16, 31, 63, 0xffff_ffff]) {
        const undefinedFlags = STATUS & ~(CF | ZF);
        add(`${name}${width} E,G`, [...prefix, 0x0f, 0xa3 + n * 8, 0xd8], { flags, eax: 0xa5a5_5a5a, ebx: index }, undefinedFlags);
        add(
          `${name}${width} m,G`,
          [...prefix, 0x0f, 0xa3 + n * 8, 0x1d, ...dword(MEMORY_GPA + 4)],
          { flags, m0: 0xa5a5_5a5a, m1: 0x1234_5678, ebx: (index & 31) | (index & 0x8000_0000 ? -32 : 0) },
          undefinedFlags,
        );
        add(`${name}${width} E,I`, [...prefix, 0x0f, 0xba, 0xe0 | (n << 3), index & 0xff], { flags, eax: 0xa5a5_5a5a }, undefinedFlags);
      }
    });
  }

// Conditions against every combination of the flags that they look at.
for (let bits = 0; bits < 32; bits++) {
  const flags = 2 | (bits & 1 ? CF : 0) | (bits & 2 ? PF : 0) | (bits & 4 ? ZF : 0) | (bits & 8 ? SF : 0) | (bits & 16 ? OF : 0);
  for (let code = 0; code < 16; code++) {
    add(`setcc${code}`, [0x0f, 0x90 + code, 0xc0], { flags, eax: 0x7777_7777 });
    add(`cmovcc${code}`, [0x0f, 0x40 + code, 0xc3], { flags, eax: 1, ebx: 2 });
    add(`jcc${code}`, [0x70 + code, 5, 0xb8, ...dword(0x1234)], { flags }); // jumps over mov eax, 0x1234
  }
  add('lahf', [0x9f], { flags });
  add('sahf', [0x9e], { flags: 2, eax: flags << 8 });
}

// Addresses: every base, index and scale form that fits into low memory.
const sib = (scale: number, index: number, base: number): number => (scale << 6) | (index << 3) | base;
const lea = [0x8d];
for (let rm = 0; rm < 8; rm++) {
  const state = { eax: 0x10, ebx: 0x20, ecx: 0x30, edx: 0x40 };
  if (rm !== 4) {
    add(`lea mod0 rm${rm}`, [...lea, rm, ...(rm === 5 ? dword(0x1234_5678) : [])], state);
    add(`lea mod1 rm${rm}`, [...lea, 0x40 | rm, 0xf0], state);
    add(`lea mod2 rm${rm}`, [...lea, 0x80 | rm, ...dword(0x8000_0010)], state);
  }
  for (let index = 0; index < 8; index++)
    for (let scale = 0; scale < 4; scale += 3) {
      add(`lea sib ${scale} ${index} ${rm}`, [...lea, 4, sib(scale, index, rm), ...(rm === 5 ? dword(0x100) : [])], state);
      add(`lea sib+8 ${scale} ${index} ${rm}`, [...lea, 0x44, sib(scale, index, rm), 0x81], state);
    }
  add(`lea16 rm${rm}`, [0x67, 0x8d, 0x80 | rm, 0x34, 0x12], { ...state, ebx: 0xffff_fff0 });
}

// Stack, strings and the rest.
const M = MEMORY_GPA;
add('push imm8', [0x6a, 0xfe, 0x58], {});
add('push word imm8', [0x66, 0x6a, 0xfe, 0x66, 0x58], { eax: 0xffff_0000 });
add('push esp', [0x54, 0x58], {});
add('pop esp', [0x68, ...dword(0x3ff0), 0x5c], {});
add('pop [esp]', [0x68, ...dword(0x55aa), 0x68, ...dword(0x77), 0x8f, 0x04, 0x24, 0x58], {});
add('pop [esp+4]', [0x68, ...dword(1), 0x68, ...dword(2), 0x68, ...dword(3), 0x8f, 0x44, 0x24, 0x04, 0x58, 0x5b], {});
add('pusha popa', [0x60, 0x31, 0xc0, 0x31, 0xdb, 0x61], { eax: 1, ebx: 2, ecx: 3, edx: 4 });
add('pusha stores esp', [0x60, 0x8b, 0x44, 0x24, 0x0c, 0x83, 0xc4, 0x20], {});
add('pushaw popaw', [0x66, 0x60, 0x31, 0xc0, 0x66, 0x61], { eax: 0x1234_5678, ebx: 2 });
add('enter leave', [0xc8, 0x10, 0, 0, 0x89, 0xe0, 0xc9], {});
add('call ret', [0xe8, 2, 0, 0, 0, 0xeb, 6, 0xb8, ...dword(9), 0xc3], {});
add('ret imm', [0x6a, 7, 0xe8, 2, 0, 0, 0, 0xeb, 3, 0xc2, 4, 0], {});
add('loop', [0xb0, 0, 0xfe, 0xc0, 0xe2, 0xfc], { ecx: 10 });
add('loope', [0x40, 0x3c, 1, 0xe1, 0xfb], { ecx: 5 });
add('loopne', [0x40, 0x3c, 3, 0xe0, 0xfb], { ecx: 9 });
add('jecxz', [0xe3, 5, 0xb8, ...dword(1)], { ecx: 0 });
add('rep stosb', [0xf3, 0xaa], { eax: 0x5a, ecx: 6, edi: M + 1 });
add('rep stosd std', [0xfd, 0xf3, 0xab, 0xfc], { eax: 0x0102_0304, ecx: 2, edi: M + 4 });
add('rep movsb', [0xf3, 0xa4], { ecx: 5, m0: 0x1122_3344, esi: M, edi: M + 2 });
add('rep movsw 0', [0x66, 0xf3, 0xa5], { ecx: 0 });
add('movsd', [0xa5], { m0: 0x1122_3344 });
add('repe cmpsb', [0xf3, 0xa6], { ecx: 4, m0: 0x1122_3344, m1: 0x1199_3344 });
add('repne scasb', [0xf2, 0xae], { ecx: 8, eax: 0x33, m0: 0x1122_3344, edi: M });
add('lodsw', [0x66, 0xad], { m0: 0x1122_3344, eax: 0xffff_ffff });
add('bswap', [0x0f, 0xc9], { ecx: 0x1122_3344 });
add('moffs', [0xa0, ...dword(M + 1), 0xa3, ...dword(M + 4)], { m0: 0x1122_3344 });
add('unaligned', [0x8b, 0x05, ...dword(M + 1), 0x89, 0x05, ...dword(M + 3)], { m0: 0x1122_3344, m1: 0x5566_7788 });
add('high bytes', [0x88, 0xe0, 0x00, 0xfd], { eax: 0x1234, ebx: 0x5600, ecx: 0x0100 });
// Memory forms only, and no EMMS: where KVM itself interprets ring 0, its interpreter knows no more of MMX.
add('movq', [0xdb, 0xe3, 0x0f, 0x6f, 0x05, ...dword(M), 0x0f, 0x7f, 0x05, ...dword(M + 0x20), 0xa1, ...dword(M + 0x24)], {
  m0: 1,
  m1: 0x8000_0002,
});
add('cmc stc clc', [0xf5, 0x0f, 0x92, 0xc0, 0xf9, 0x0f, 0x92, 0xc3, 0xf8, 0x0f, 0x92, 0xc1], {});
add('mov seg', [0x8c, 0xd8, 0x8c, 0x1d, ...dword(M)], { eax: 0xffff_ffff, m0: 0xffff_ffff });
add('pushfd', [0x9c, 0x58], { flags: 0x4cd7 & ~0x4000 });
add('popfw', [0x66, 0x68, 0xd5, 0x0c, 0x66, 0x9d], {});
add('lock inc', [0xf0, 0xff, 0x05, ...dword(M)], { m0: 0xffff_ffff });
add('push m pop m', [0xff, 0x35, ...dword(M), 0x8f, 0x05, ...dword(M + 4)], { m0: 0x99 });
add('imul imm32', [0x69, 0xc3, ...dword(0x1_0001)], { ebx: 0x1_0001 }, SF | ZF | AF | PF);
add('smsw', [0x0f, 0x01, 0xe0, 0x83, 0xe0, 1], {}, AF);
add('nop long', [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0xf3, 0x90], {});

export const CORPUS: readonly CorpusCase[] = cases;
