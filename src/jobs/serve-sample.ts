/** A small display device on a vfio-user socket. */
import { findSampleType, Samples } from '../core/samples/index.js';
import type { VfioDevice } from '../core/vfio/device.js';
import type { Recorded } from '../recording/index.js';
import { deviceMemories, realServerCalls, VfioUserServer } from '../vfio/index.js';
import { trafficCounts } from './counters.js';
import { recordOf, type Serve } from './serve.js';

const DEFAULT_TYPES = { mbochs: 'medium', mdpy: 'xga' } as const;
/** Also how long a question of the main thread, a picture, may wait while no client does anything. */
const WAIT_MS = 30;

export const serve: Serve = (input, hooks, _context, recording) => {
  const { place, trustClient } = input;
  const kind = input.device as keyof typeof DEFAULT_TYPES;
  const type = findSampleType(input.type ?? DEFAULT_TYPES[kind], kind);
  const sample = new Samples(deviceMemories).create(type);
  const record = recordOf(input, hooks);
  let recorded: Recorded<VfioDevice> | undefined;
  let device: VfioDevice = sample;
  let server: VfioUserServer;
  try {
    if (recording !== undefined && record !== undefined) {
      recorded = recording.openRecordedDevice(sample, kind, type.name, record);
      device = recorded.device;
    }
    server = new VfioUserServer(realServerCalls, place, device, { ...hooks, trustFiles: trustClient });
  } catch (error) {
    recorded?.close();
    sample.close();
    throw error;
  }
  return {
    device,
    get ended() {
      return server.ended;
    },
    counts: () => trafficCounts(server.clients, server.traffic),
    step: () => {
      const access = server.receive(WAIT_MS);
      if (access === undefined) {
        recorded?.idle();
        return;
      }
      const { write, region, offset, bytes } = access;
      server.complete(write ? device.write(region, offset, bytes) : device.read(region, offset, bytes));
    },
    close: () => {
      server.close();
      recorded?.close();
      sample.close();
    },
  };
};
