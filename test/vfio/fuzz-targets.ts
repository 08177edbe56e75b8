/** The servers that the fuzzer speaks to: a session in memory, a server on a socket, a vGPU behind the backend's served machine. */
import { VfioUserBackend } from '../../src/backends/vfio-user/backend.js';
import { dispatchRequest } from '../../src/core/gvt/dispatch.js';
import { Gvt } from '../../src/core/gvt/gvt.js';
import { findSampleType, Samples } from '../../src/core/samples/index.js';
import { RegionIndex, type VfioDevice } from '../../src/core/vfio/device.js';
import { IrqSetFlag } from '../../src/core/vfio/irqs.js';
import { MemfdMemories } from '../../src/native/device-memory.js';
import { EventFd } from '../../src/native/eventfd.js';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { libcSockets } from '../../src/native/sockets.js';
import { VfioUserClient } from '../../src/vfio/client.js';
import { DmaMaps } from '../../src/vfio/dma-maps.js';
import { VfioUserServer } from '../../src/vfio/server.js';
import { Session } from '../../src/vfio/session.js';
import type { Transport } from '../../src/vfio/transport.js';
import { connectTransport } from './sockets.js';
import { answer, closeFd, copyingPair, counted, eventfd, memfd } from './support.js';

export interface Target {
  readonly name: string;
  readonly device: VfioDevice;
  readonly memory: DmaMaps;
  /** A new client's end. */
  connect(): Transport;
  /** Answers what has come, and notices a client that went. */
  pump(): void;
  /** Why the last connection ended; undefined while it stands. */
  ended(): string | undefined;
  close(): void;
}

const memories = new MemfdMemories(sys);
const MEMORY_DECODING = 2;
const CALLS = { sys, sockets: libcSockets };

/** Each target with a device that has just been made. */
export const TARGETS: readonly ((folder: string) => Target)[] = [inMemory, onSocket, behindBackend];

function inMemory(): Target {
  const device = new Samples(memories).create(findSampleType('mbochs-small'));
  const memory = new DmaMaps(sys);
  let session: Session | undefined;
  let why: string | undefined;
  return {
    name: 'mbochs in memory',
    device,
    memory,
    connect: () => {
      const [server, client] = copyingPair();
      session = new Session(server, { device, memory, openEvent: (fd) => EventFd.adopt(sys, fd) });
      why = undefined;
      return client;
    },
    pump: () => {
      for (let quiet = 0; session !== undefined && quiet < 2; ) {
        const access = session.receive(0);
        if (access !== undefined) answer(session, device, access);
        else if (session.open) quiet++;
        else {
          why = session.stream.end;
          session.close();
          session = undefined;
        }
      }
    },
    ended: () => why,
    close: () => device.close(),
  };
}

function onSocket(folder: string): Target {
  const device = new Samples(memories).create(findSampleType('mdpy-vga'));
  let why: string | undefined;
  const server = new VfioUserServer(CALLS, `${folder}/mdpy.sock`, device, {
    onDisconnect: (text) => {
      why = text;
    },
  });
  return {
    name: 'mdpy on a socket',
    device,
    memory: server.memory,
    connect: () => {
      why = undefined;
      return connectTransport(server.path);
    },
    pump: () => {
      for (let quiet = 0; quiet < 3; ) {
        const access = server.receive(0);
        if (access === undefined) quiet++;
        else answer(server, device, access);
      }
    },
    ended: () => why,
    close: () => {
      server.close();
      device.close();
    },
  };
}

/** Tells the guest memory that it makes. */
class Backend extends VfioUserBackend {
  memory: DmaMaps | undefined;

  override newMemory(): DmaMaps {
    this.memory = super.newMemory();
    return this.memory;
  }
}

function behindBackend(folder: string): Target {
  const backend = new Backend(CALLS);
  let why: string | undefined;
  const machine = backend.serve(`${folder}/gvt.sock`, {
    onDisconnect: (text) => {
      why = text;
    },
  });
  const gvt = new Gvt(backend, { memories });
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: machine.vmId });
  const device = gvt.view(vgpu);
  gvt.activate(vgpu);
  return {
    name: 'a vGPU behind the backend',
    device,
    memory: backend.memory as DmaMaps,
    connect: () => {
      why = undefined;
      return connectTransport(machine.path);
    },
    pump: () => {
      for (let quiet = 0; quiet < 3; ) {
        const request = machine.requests.next(0);
        if (request === undefined) quiet++;
        else {
          dispatchRequest(gvt, request);
          machine.requests.complete(request);
        }
      }
      gvt.runSlice(256);
    },
    ended: () => why,
    close: () => {
      gvt.destroy();
      backend.close();
    },
  };
}

/** What QEMU does at the start, and an access of each kind; throws where an answer is not what it should be. */
export function behave({ connect, pump, device }: Target): void {
  const client = new VfioUserClient(connect(), { pump });
  const file = memfd(0x10_0000);
  const event = eventfd();
  const expect = (what: string, is: unknown, should: unknown): void => {
    if (is !== should) throw new Error(`a well-behaved client: ${what} is ${is}, not ${should}`);
  };
  try {
    expect('max_msg_fds', client.version({ write_multiple: true })['max_msg_fds'], 16);
    client.dmaMap(0, 0x10_0000, file);
    client.dmaMap(0x10_0000, 0x1000, file, 0x1000, 1);
    expect('the number of regions', client.deviceInfo().regions, device.regionCount);
    for (let region = 0; region < 9; region++) {
      const info = client.regionInfo(region);
      if (info.fd !== undefined) closeFd(info.fd);
      expect(`region ${region}'s size`, info.size, device.regions.get(region)?.size ?? 0);
    }
    for (let index = 0; index < 5; index++) expect(`irq ${index}`, client.irqInfo(index).count, device.irqs.info[index]?.count);
    if ((device.irqs.info[1]?.count ?? 0) > 0) {
      client.setIrqs(IrqSetFlag.DATA_EVENTFD | IrqSetFlag.TRIGGER, 1, 0, 1, { fds: [event] });
      client.setIrqs(IrqSetFlag.DATA_NONE | IrqSetFlag.TRIGGER, 1, 0, 1);
      expect('the interrupt', counted(event), 1);
    }
    client.reset();
    const config = new Uint8Array(64);
    device.read(RegionIndex.CONFIG, 0, config);
    expect('configuration space', Buffer.compare(client.read(RegionIndex.CONFIG, 0, 64), config), 0);
    client.write(RegionIndex.CONFIG, 0x10, Uint8Array.of(0, 0, 0, 0xe0));
    client.write(RegionIndex.CONFIG, 0x04, Uint8Array.of(MEMORY_DECODING, 0));
    client.writeMulti([{ region: RegionIndex.CONFIG, offset: 0x3c, bytes: Uint8Array.of(11) }]);
    expect('the command register', client.read(RegionIndex.CONFIG, 4, 1)[0], MEMORY_DECODING);
    expect('a register', client.read(0, 0, 4).length, 4);
    client.dmaUnmap(0, 0x10_0000);
  } finally {
    client.close();
    closeFd(file);
    closeFd(event);
    pump();
  }
}
