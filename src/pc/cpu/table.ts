/**
 * The opcode table and how rows enter it. Index 0 to 255: one-byte opcodes; 256 to 511: those after 0x0F. A row is the
 * first opcode, how many opcodes from there share the handler, whether ModRM follows, and the handler.
 */
import { VECTOR } from './cpu.js';
import type { Handler, Width } from './forms.js';

export const unknown: Handler = (c) => {
  throw c.fatal('the simulated vCPU does not know this instruction');
};

export const invalid: Handler = (c) => {
  throw c.exception(VECTOR.INVALID_OPCODE);
};

export const nop: Handler = () => undefined;

export const HANDLERS: Handler[] = new Array<Handler>(512).fill(unknown);
/** 1 where ModRM follows the opcode. */
export const HAS_MODRM = new Uint8Array(512);

export const NO_MODRM = false;
export const MODRM = true;

/** Enters one row. */
export function row(opcode: number, count: number, modRm: boolean, handler: Handler): void {
  for (let i = opcode; i < opcode + count; i++) {
    HANDLERS[i] = handler;
    HAS_MODRM[i] = modRm ? 1 : 0;
  }
}

/** Byte form at `opcode`, word-or-dword form at `opcode + 1`. */
export function pair(opcode: number, modRm: boolean, make: (width: Width) => Handler): void {
  row(opcode, 1, modRm, make('b'));
  row(opcode + 1, 1, modRm, make('v'));
}
