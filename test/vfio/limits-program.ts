/** Program of the tests: a server whose process has no descriptor left when a client sends some. Argument: socket. Prints a word a line. */
import { spawnSync } from 'node:child_process';
import { MptError } from '../../src/core/errors.js';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { libcSockets } from '../../src/native/sockets.js';
import { F } from '../../src/native/syscalls.js';
import { VfioUserServer } from '../../src/vfio/server.js';
import { connectClient } from './sockets.js';
import { closeFd, eventfd, memfd, TestDevice } from './support.js';

const LIMIT = 64;
const [path = ''] = process.argv.slice(2);
const device = new TestDevice();
const server = new VfioUserServer({ sys, sockets: libcSockets }, path, device);
const client = connectClient(server);
client.version();
const [file, event] = [memfd(0x1000), eventfd()];
const attempt = (what: string, run: () => void): void => {
  let outcome = 'ok';
  try {
    run();
  } catch (error) {
    outcome = MptError.is(error) ? String(error.errno ?? error.code) : String(error);
  }
  process.stdout.write(`${what} ${outcome}\n`);
};
const map = (): void => client.dmaMap(0, 0x1000, file);
const arm = (): void => client.setIrqs(0x24, 2, 0, 1, { fds: [event] });

spawnSync('prlimit', ['--pid', String(process.pid), `--nofile=${LIMIT}:${LIMIT}`]);
const filler: number[] = [];
for (let fd = sys.fcntl(event, F.DUPFD_CLOEXEC, 0); fd >= 0; fd = sys.fcntl(event, F.DUPFD_CLOEXEC, 0)) filler.push(fd);
attempt('map', map);
attempt('arm', arm);
process.stdout.write(`maps ${server.memory.count}, armed ${device.irqs.armed(2, 0)}\n`);
for (const fd of filler) closeFd(fd);
attempt('map', map);
attempt('arm', arm);
process.stdout.write(`maps ${server.memory.count}, armed ${device.irqs.armed(2, 0)}\n`);
client.close();
server.close();
