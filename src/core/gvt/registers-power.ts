/** Power, clock and firmware mailbox registers (facts: gvt.md 4.8; i915.md). Every request is granted at once. */
import { Status } from '../gvt-ops.js';
import type { AfterHandler, RegisterDefinition, WriteHandler } from './registers.js';

const FORCEWAKE_ACK = 0x13_0044;
const PCODE_DATA = 0x13_8128;
/** Mailbox: bit 31 busy, bits 7:0 command going in and error coming out. */
const PCODE_BUSY = 0x8000_0000;
const PCODE_COMMAND = 0xff;
const PCODE_READ_RC6VIDS = 5;
const POWER_WELL = 0x4_5400;
const POWER_WELLS = 4;
/** Each well's request bit; its state is the bit below. */
const POWER_WELL_REQUESTS = 0xaaaa_aaaa;

/** The wake request's low half is acknowledged as it stands. */
const forcewake: AfterHandler = ({ registers }, offset) => {
  registers.set(FORCEWAKE_ACK, registers.get(offset) & 0xffff);
  return Status.OK;
};

const mailbox: WriteHandler = ({ registers }, offset, value) => {
  if ((value & PCODE_COMMAND) === PCODE_READ_RC6VIDS) registers.set(PCODE_DATA, registers.get(PCODE_DATA) | 1);
  registers.set(offset, value & ~(PCODE_BUSY | PCODE_COMMAND));
  return Status.OK;
};

/** BIOS, driver, KVMR and debug each have a request register; a well is on when any of them asks. */
const powerWell: AfterHandler = ({ registers }) => {
  let requests = 0;
  for (let i = 0; i < POWER_WELLS; i++) requests |= registers.get(POWER_WELL + 4 * i) & POWER_WELL_REQUESTS;
  for (let i = 0; i < POWER_WELLS; i++) {
    const offset = POWER_WELL + 4 * i;
    registers.set(offset, (registers.get(offset) & POWER_WELL_REQUESTS) | (requests >>> 1));
  }
  return Status.OK;
};

/** LCPLL: locked (30) unless disabled (31); the clock-source switch (21) is done (19) at once. */
const lcpll: AfterHandler = ({ registers }, offset) => {
  const value = registers.get(offset);
  const locked = (value & (1 << 31)) === 0 ? 1 << 30 : 0;
  const switched = (value & (1 << 21)) !== 0 ? 1 << 19 : 0;
  registers.set(offset, (value & ~((1 << 30) | (1 << 19))) | locked | switched);
  return Status.OK;
};

export const POWER_REGISTERS: readonly RegisterDefinition[] = [
  { name: 'FORCEWAKE_MT', offset: 0xa188, masked: true, command: 'ignore', after: forcewake },
  { name: 'FORCEWAKE_ACK_HSW', offset: FORCEWAKE_ACK, writable: 0 },
  { name: 'GEN6_PCODE_MAILBOX', offset: 0x13_8124, write: mailbox },
  { name: 'HSW_PWR_WELL_CTL', offset: POWER_WELL, count: POWER_WELLS, after: powerWell },
  { name: 'LCPLL_CTL', offset: 0x13_0040, reset: 1 << 30, after: lcpll },
];
