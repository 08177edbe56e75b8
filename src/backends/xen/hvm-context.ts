/**
 * A vCPU's state as Xen saves it (hvm/save.h): records of a descriptor and a body, from HEADER to END. A boot is the state
 * that the domain had when it was created, with a vCPU 0 that stands at the image's first byte in real mode.
 */
import { XEN_CONST as C, CPU_SEGMENTS, XEN_STRUCT } from './abi.js';

const { hvm_save_descriptor: DESCRIPTOR, hvm_hw_cpu: CPU } = XEN_STRUCT;

/** Access rights as hvm_hw_cpu packs them: type, S, DPL, P in the low byte, AVL, L, D, G above. */
const SEGMENT_RIGHTS: Readonly<Record<(typeof CPU_SEGMENTS)[number], number>> = {
  cs: 0x9b,
  ds: 0x93,
  es: 0x93,
  fs: 0x93,
  gs: 0x93,
  ss: 0x93,
  tr: 0x8b,
  ldtr: 0x82,
};
const REAL_MODE_LIMIT = 0xffff;
const CR0_ET = 0x10;
/** Values that the debug registers and the flags have after reset (Intel SDM volume 3, table 9-1). */
const DR6_RESET = 0xffff_0ff0;
const DR7_RESET = 0x400;
const RFLAGS_RESET = 2;

interface HvmRecord {
  readonly code: number;
  readonly bytes: Uint8Array;
}

function records(context: Uint8Array): HvmRecord[] {
  const view = new DataView(context.buffer, context.byteOffset, context.length);
  const found: HvmRecord[] = [];
  for (let at = 0; at + DESCRIPTOR.size <= context.length; ) {
    const code = view.getUint16(at + DESCRIPTOR.typecode, true);
    const end = at + DESCRIPTOR.size + view.getUint32(at + DESCRIPTOR.length, true);
    if (end > context.length) break;
    found.push({ code, bytes: context.subarray(at, end) });
    if (code === C.HVM_SAVE_CODE_END) break;
    at = end;
  }
  return found;
}

/** vCPU 0 in real mode with CS = gpa >> 4, IP = 0. */
function realModeCpu(gpa: number): HvmRecord {
  const bytes = new Uint8Array(DESCRIPTOR.size + CPU.size);
  const view = new DataView(bytes.buffer);
  view.setUint16(DESCRIPTOR.typecode, C.HVM_SAVE_CODE_CPU, true);
  view.setUint32(DESCRIPTOR.length, CPU.size, true);
  const at = DESCRIPTOR.size;
  CPU_SEGMENTS.forEach((name, i) => {
    view.setUint32(at + CPU.cs_limit + i * 4, REAL_MODE_LIMIT, true);
    view.setUint32(at + CPU.cs_arbytes + i * 4, SEGMENT_RIGHTS[name], true);
  });
  view.setUint32(at + CPU.cs_sel, gpa >> 4, true);
  view.setUint32(at + CPU.cs_base, gpa, true);
  view.setUint32(at + CPU.idtr_limit, REAL_MODE_LIMIT, true);
  view.setUint32(at + CPU.gdtr_limit, REAL_MODE_LIMIT, true);
  view.setUint32(at + CPU.cr0, CR0_ET, true);
  view.setUint32(at + CPU.dr6, DR6_RESET, true);
  view.setUint32(at + CPU.dr7, DR7_RESET, true);
  view.setUint32(at + CPU.rflags, RFLAGS_RESET, true);
  return { code: C.HVM_SAVE_CODE_CPU, bytes };
}

/** The context to boot with: `initial`, vCPU 0 replaced or added. */
export function bootContext(initial: Uint8Array, gpa: number): Uint8Array {
  const parts = records(initial).filter(({ code }) => code !== C.HVM_SAVE_CODE_CPU);
  const header = parts.findIndex(({ code }) => code === C.HVM_SAVE_CODE_HEADER);
  parts.splice(header + 1, 0, realModeCpu(gpa));
  const context = new Uint8Array(parts.reduce((sum, { bytes }) => sum + bytes.length, 0));
  let at = 0;
  for (const { bytes } of parts) {
    context.set(bytes, at);
    at += bytes.length;
  }
  return context;
}
