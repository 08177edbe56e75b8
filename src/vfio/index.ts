/** What composition roots take from here. */
import { MemfdMemories } from '../native/device-memory.js';
import { libcSyscalls } from '../native/libc.js';

export { removeDeadSocket, SocketListener, type SocketOwner } from './listener.js';
export { realServerCalls, type ServerCalls, type ServerEvents, type ServerPlace, VfioUserServer } from './server.js';
export type { RegionAccess } from './session.js';

/** Device memory that clients may map. */
export const deviceMemories = new MemfdMemories(libcSyscalls);
