/** Program of the tests: a client of a vfio-user server that misbehaves. Arguments: socket, scenario. Prints a line when it has begun. */
import { connect } from 'node:net';
import { Command, HeaderFlag } from '../../src/vfio/protocol.js';
import { message, u32, u64, versionMessage } from './support.js';

const [path = '', scenario] = process.argv.slice(2);
const socket = connect(path);
socket.on('error', () => process.exit(0));
socket.on('close', () => process.exit(0));
socket.once('connect', () => {
  process.stdout.write('begun\n');
  socket.write(versionMessage(1));
  switch (scenario) {
    // A message of 1 MiB, a byte at a time, for ever.
    case 'drip': {
      socket.write(message(2, Command.REGION_WRITE, [...u64(0), ...u32(0), ...u32(0x10_0000)], 0, 32 + 0x10_0000));
      setInterval(() => socket.write(Uint8Array.of(1)), 20);
      break;
    }
    // Requests without end whose replies it does not read.
    case 'mute': {
      socket.pause();
      const request = Buffer.concat(new Array(1000).fill(message(2, Command.DEVICE_GET_INFO, [...u32(16), ...u32(0), ...u64(0)])));
      const more = (): void => void socket.write(request, more);
      more();
      break;
    }
    // Accesses without end that are refused.
    case 'flood': {
      const request = Buffer.concat(
        new Array(1000).fill(message(2, Command.REGION_READ, [...u64(0), ...u32(0), ...u32(4)], HeaderFlag.NO_REPLY)),
      );
      socket.resume();
      const more = (): void => void socket.write(request, more);
      more();
      break;
    }
    default:
      throw new Error(`no scenario ${scenario}`);
  }
});
