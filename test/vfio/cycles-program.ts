/**
 * Program of the tests: clients come and go. Arguments: socket, cycles. Prints a JSON line: what the process held after a warm-up and
 * at the end. Run with --expose-gc.
 */
import { findSampleType, Samples } from '../../src/core/samples/index.js';
import { MemfdMemories } from '../../src/native/device-memory.js';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { libcSockets } from '../../src/native/sockets.js';
import { VfioUserServer } from '../../src/vfio/server.js';
import { connectClient, settle } from './sockets.js';
import { closeFd, eventfd, mappings, memfd, OURS, openFds, unsealable } from './support.js';

const [path = '', cycles = '100'] = process.argv.slice(2);
const WARM_UP = 50;
const device = new Samples(new MemfdMemories(sys)).create(findSampleType('mbochs-small'));
const server = new VfioUserServer({ sys, sockets: libcSockets }, path, device);

function cycle(): void {
  const client = connectClient(server);
  client.version();
  const files = [memfd(0x10_0000), unsealable(0x10_0000), eventfd()] as const;
  client.dmaMap(0, 0x10_0000, files[0]);
  client.dmaMap(0x10_0000, 0x10_0000, files[1]);
  client.dmaMap(0x20_0000, 0x1000);
  const { fd } = client.regionInfo(0);
  if (fd !== undefined) closeFd(fd);
  client.read(7, 0, 256);
  client.write(0, 0, new Uint8Array(4096));
  server.memory.write(0xf_0000, new Uint8Array(0x2_0000), 0, 0x2_0000);
  client.close();
  for (const each of files) closeFd(each);
  settle(server);
}

function held(): { fds: number; maps: number; allMaps: number; rss: number } {
  for (let i = 0; i < 3; i++) globalThis.gc?.();
  return { fds: openFds(), maps: mappings(OURS), allMaps: mappings(/./), rss: process.memoryUsage.rss() };
}

for (let i = 0; i < WARM_UP; i++) cycle();
// What V8 frees later, and its compiled code, are there by now.
await new Promise((resolve) => setTimeout(resolve, 50));
const before = held();
const since = performance.now();
for (let i = 0; i < Number(cycles); i++) {
  cycle();
  if (i % 100 === 99) await new Promise((resolve) => setImmediate(resolve));
}
const ms = performance.now() - since;
await new Promise((resolve) => setTimeout(resolve, 50));
const after = held();
server.close();
device.close();
process.stdout.write(`${JSON.stringify({ before, after, ms })}\n`);
