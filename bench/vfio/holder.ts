/** `holder.js FOLDER COUNT`: a process with so many mbochs devices on sockets FOLDER/0, FOLDER/1, ... It serves until stdin ends. */
import { findSampleType, Samples } from '../../src/core/samples/index.js';
import { deviceMemories, realServerCalls, VfioUserServer } from '../../src/vfio/index.js';

const [folder = '', count = '0'] = process.argv.slice(2);
const samples = new Samples(deviceMemories);
const servers = Array.from({ length: Number(count) }, (_, i) => {
  const device = samples.create(findSampleType('medium', 'mbochs'));
  return new VfioUserServer(realServerCalls, `${folder}/${i}`, device);
});

let ended = false;
process.stdin.resume().on('end', () => {
  ended = true;
});

function turn(): void {
  if (ended) {
    for (const server of servers) server.close();
    return;
  }
  for (const server of servers)
    for (let access = server.receive(1); access !== undefined; access = server.receive(0)) {
      const { write, region, offset, bytes } = access;
      server.complete(write ? server.device.write(region, offset, bytes) : server.device.read(region, offset, bytes));
    }
  // The end of stdin must be seen; without devices there is nothing else to do.
  if (servers.length > 0) setImmediate(turn);
}

process.stdout.write('ready\n');
turn();
