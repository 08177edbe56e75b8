/** Checks of what callers hand to `GuestAgent`, made before the guest sees anything. */
import type { Gpa } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import { AGENT_FIRST_VECTOR, AGENT_PORT, AGENT_PORTS_SIZE, type AgentCommand } from './protocol.js';

/** Bytes of a load or store by one instruction. */
export type AgentSize = 1 | 2 | 4;
/** A command for each access size. */
export type BySize = Readonly<Record<AgentSize, AgentCommand>>;

/** The agent runs in 32-bit mode without paging. */
const ADDRESS_LIMIT = 2 ** 32;
const PORT_LIMIT = 0x1_0000;

/** The command for an access of `size` bytes. @throws MptError INVALID_ARGUMENT for other sizes */
export function sized(table: BySize, size: number, op: string): AgentCommand {
  const command = (table as Readonly<Record<number, AgentCommand | undefined>>)[size];
  if (command === undefined) throw new MptError('INVALID_ARGUMENT', 'an access has 1, 2 or 4 bytes', { op, size });
  return command;
}

/** @throws MptError INVALID_ADDRESS unless [gpa, gpa + size) lies below 4 GiB */
export function checkAddress(gpa: number, size: number, op: string): Gpa {
  if (!Number.isInteger(gpa) || gpa < 0 || gpa + size > ADDRESS_LIMIT)
    throw new MptError('INVALID_ADDRESS', 'the agent reaches the first 4 GiB only', { op, address: gpa, size, limit: ADDRESS_LIMIT });
  return gpa as Gpa;
}

/** @throws MptError INVALID_ADDRESS past port 0xffff, INVALID_ARGUMENT for the ports of the protocol */
export function checkPort(port: number, size: number, op: string): number {
  if (!Number.isInteger(port) || port < 0 || port + size > PORT_LIMIT)
    throw new MptError('INVALID_ADDRESS', 'ports end at 0xffff', { op, address: port, size, limit: PORT_LIMIT });
  if (port < AGENT_PORT + AGENT_PORTS_SIZE && AGENT_PORT < port + size)
    throw new MptError('INVALID_ARGUMENT', 'the port belongs to the agent itself', { op, address: port, size });
  return port;
}

/** @throws MptError INVALID_ARGUMENT outside 32..255 */
export function checkVector(vector: number, op: string): number {
  if (!Number.isInteger(vector) || vector < AGENT_FIRST_VECTOR || vector > 255)
    throw new MptError('INVALID_ARGUMENT', `the agent counts vectors ${AGENT_FIRST_VECTOR} to 255, not ${vector}`, { op });
  return vector;
}

/** @throws MptError INVALID_ARGUMENT unless an integer in 0..2^32-1 */
export function checkCount(count: number, op: string): number {
  if (!Number.isInteger(count) || count < 0 || count >= ADDRESS_LIMIT)
    throw new MptError('INVALID_ARGUMENT', `a count is an integer below 2^32, not ${count}`, { op });
  return count;
}
