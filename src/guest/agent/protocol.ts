/**
 * What host and guest agent agree on. agent.S states the same numbers; a test compares the two.
 *
 * The agent takes command dwords with `in eax, dx` from `AGENT_PORT` and returns results with `out dx, eax`. A command
 * is over when the agent fetches the next one. An exception is three dwords to `AGENT_FAULT_PORT`: vector, EIP, error
 * code (0 where the exception has none); then the agent halts for good.
 */
import { Gpa } from '../../core/addresses.js';

/** Where the image is loaded and entered in real mode: CS = 0x800, IP = 0. It is linked for this address. */
export const AGENT_GPA: Gpa = Gpa(0x8000);
/** Interrupt descriptor table, 256 gates of 8 bytes, built by the agent. */
export const AGENT_IDT_GPA: Gpa = Gpa(0x9000);
/** Interrupt entry points, 256 stubs of 8 bytes, built by the agent. */
export const AGENT_STUBS_GPA: Gpa = Gpa(0x9800);
/** Interrupts taken since boot: 256 dwords, indexed by vector. */
export const AGENT_COUNTERS_GPA: Gpa = Gpa(0xa000);
/** First byte that the agent leaves to its user; its stack grows down from here. RAM must reach this far from `AGENT_GPA`. */
export const AGENT_FREE_GPA: Gpa = Gpa(0x1_0000);

/** Port of commands (dword in) and results (dword out). */
export const AGENT_PORT = 0xe00;
/** Port of exception reports (dword out). */
export const AGENT_FAULT_PORT = 0xe04;
/** Bytes of port space from `AGENT_PORT` on that belong to the protocol. */
export const AGENT_PORTS_SIZE = 8;

/** Vectors below this are exceptions: the agent reports them as faults, whoever raised them. */
export const AGENT_FIRST_VECTOR = 32;

/** Commands in opcode order, each with the number of dwords that follow it. Streams take `count` dwords or pairs more. */
const ARGUMENTS = {
  read8: 1, // gpa
  read16: 1,
  read32: 1,
  read64: 1,
  write8: 2, // gpa, value
  write16: 2,
  write32: 2,
  write64: 3, // gpa, low, high
  in8: 1, // port
  in16: 1,
  in32: 1,
  out8: 2, // port, value
  out16: 2,
  out32: 2,
  stream32: 2, // gpa, count
  stream64: 2, // gpa, count of pairs
  burst_read8: 2, // gpa, count
  burst_read16: 2,
  burst_read32: 2,
  burst_write8: 3, // gpa, count, value
  burst_write16: 3,
  burst_write32: 3,
  wait_interrupt: 2, // vector, count
  poll: 3, // gpa, mask, value
  spin: 0,
} as const;

export interface AgentCommand {
  /** Label in agent.S. */
  readonly name: string;
  /** Index in the agent's jump table. */
  readonly opcode: number;
  /** Dwords that follow the opcode, not counting a stream's data. */
  readonly args: number;
}

export type AgentCommandName = keyof typeof ARGUMENTS;

/** The agent's commands by label. */
export const AGENT_COMMANDS = Object.fromEntries(
  Object.entries(ARGUMENTS).map(([name, args], opcode) => [name, { name, opcode, args }]),
) as Readonly<Record<AgentCommandName, AgentCommand>>;

/** Names of the exceptions that a guest can bring about here (Intel SDM volume 3, table 6-1). */
export const EXCEPTION_NAMES: Readonly<Record<number, string>> = {
  0: 'divide error',
  1: 'debug',
  2: 'NMI',
  3: 'breakpoint',
  6: 'invalid opcode',
  7: 'device not available',
  8: 'double fault',
  10: 'invalid TSS',
  11: 'segment not present',
  12: 'stack fault',
  13: 'general protection',
  14: 'page fault',
  16: 'x87 error',
  17: 'alignment check',
  18: 'machine check',
};
