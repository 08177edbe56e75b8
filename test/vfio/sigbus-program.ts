/**
 * Program of the tests: a server and its client in one process, which a shortened file would end by SIGBUS. Argument: how the client's
 * file is. Prints what happened, one word a line, and `done`.
 */
import { MptError } from '../../src/core/errors.js';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { libcSockets } from '../../src/native/sockets.js';
import { VfioUserServer } from '../../src/vfio/server.js';
import { connectClient, pump } from './sockets.js';
import { memfd, TestDevice, unsealable } from './support.js';

const [path = '', how] = process.argv.slice(2);
const SIZE = 0x10_0000;
const say = (word: string): void => void process.stdout.write(`${word}\n`);

const device = new TestDevice();
const server = new VfioUserServer({ sys, sockets: libcSockets }, path, device, { trustFiles: how === 'trusted' });
const client = connectClient(server);
client.version();
const fd = how === 'sealable' ? memfd(SIZE) : unsealable(SIZE);
client.dmaMap(0, SIZE, fd);
say(server.memory.maps[0]?.kind ?? 'none');

/** In the middle of an access the client shortens the file. */
device.onAccess = ({ write }) => {
  say(sys.ftruncate(fd, 0) === 0 ? 'shortened' : 'kept');
  const bytes = new Uint8Array(16);
  try {
    if (write) server.memory.write(0x8000, bytes, 0, 16);
    else server.memory.read(0x8000, bytes, 0, 16);
    say('reached');
  } catch (error) {
    say(MptError.is(error) ? error.code : String(error));
  }
};
client.read(0, 0, 4);
client.write(0, 0, new Uint8Array(4));
device.onAccess = undefined;
client.close();
for (let i = 0; i < 4; i++) pump(server);
const next = connectClient(server);
next.version();
say(next.deviceInfo().regions === device.regionCount ? 'served' : 'broken');
next.close();
server.close();
say('done');
