/**
 * What a device takes: resident memory of a process with 0, 1 and 5 mbochs devices, each with a client that has used all of it, less the
 * video memory, every page of which is resident then.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { MptError } from '../../src/core/errors.js';
import { findSampleType } from '../../src/core/samples/index.js';
import { RegionIndex } from '../../src/core/vfio/device.js';
import { libcSyscalls } from '../../src/native/libc.js';
import { libcSockets, unixAddress } from '../../src/native/sockets.js';
import { VfioUserClient } from '../../src/vfio/client.js';
import { deviceMemories } from '../../src/vfio/index.js';
import { socketTransport } from '../../src/vfio/transport.js';

const HOLDER = fileURLToPath(new URL('./holder.js', import.meta.url));
const MIB = 0x10_0000;
/** Bytes that a device may take beyond its video memory. */
const PROMISED = 20 * MIB;
const VIDEO_MEMORY = findSampleType('medium', 'mbochs').cost;
const COUNTS = [0, 1, 5] as const;
const GUEST_MEMORY = 64 * MIB;
const TRANSFER = MIB;
const SMALL_ACCESSES = 20_000;

function connect(path: string): VfioUserClient {
  const fd = libcSockets.socket(0);
  const result = fd < 0 ? fd : libcSockets.connect(fd, unixAddress(path) as Uint8Array);
  if (result < 0) throw new MptError('IO', `${path} cannot be reached`, { errno: -result });
  return new VfioUserClient(socketTransport(libcSyscalls, libcSockets, fd));
}

/** All that makes a device and its connection grow: large and small accesses, every page of video memory, guest memory. */
function use(client: VfioUserClient, guestMemory: number): void {
  client.version({ max_data_xfer_size: TRANSFER, write_multiple: true });
  client.dmaMap(0, GUEST_MEMORY, guestMemory);
  const data = new Uint8Array(TRANSFER).fill(0x5a);
  for (let at = 0; at < VIDEO_MEMORY; at += TRANSFER) {
    client.write(RegionIndex.BAR0, at, data);
    client.read(RegionIndex.BAR0, at, TRANSFER);
  }
  for (let i = 0; i < SMALL_ACCESSES; i++) {
    client.startWrite(RegionIndex.BAR0, 4 * i, data.subarray(0, 4), true);
    if (i % 16 === 0) client.read(RegionIndex.BAR2, 0x500, 2);
  }
}

/** Resident bytes of a process. */
function resident(pid: number): number {
  return Number(/^VmRSS:\s*(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1024;
}

async function residentWith(count: number): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'mpt-bench-'));
  const child = spawn(process.execPath, [HOLDER, folder, String(count)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const gone = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const memory = deviceMemories.allocate(GUEST_MEMORY, 'guest-memory');
  const clients: VfioUserClient[] = [];
  try {
    const ready = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
    if (ready.done === true) throw new MptError('IO', 'the process with the devices ended');
    for (let i = 0; i < count; i++) {
      const client = connect(`${folder}/${i}`);
      clients.push(client);
      use(client, memory.fd);
    }
    return resident(child.pid as number);
  } finally {
    for (const client of clients) client.close();
    memory.close();
    child.stdin.end();
    await gone;
    rmSync(folder, { recursive: true, force: true });
  }
}

const mib = (bytes: number): number => Number((bytes / MIB).toFixed(1));

/** @param json one document instead of lines */
export async function runMemory(json: boolean): Promise<void> {
  const rows: { devices: number; residentMiB: number; beyondVideoMemoryMiB: number; perDeviceMiB?: number }[] = [];
  let empty = 0;
  for (const devices of COUNTS) {
    const bytes = await residentWith(devices);
    const beyond = bytes - devices * VIDEO_MEMORY;
    if (devices === 0) empty = bytes;
    const perDevice = devices === 0 ? {} : { perDeviceMiB: mib((beyond - empty) / devices) };
    rows.push({ devices, residentMiB: mib(bytes), beyondVideoMemoryMiB: mib(beyond), ...perDevice });
  }
  if (json) {
    process.stdout.write(`${JSON.stringify({ videoMemoryMiB: mib(VIDEO_MEMORY), results: rows })}\n`);
    return;
  }
  process.stdout.write('devices   resident   beyond video memory   a device      target\n');
  for (const { devices, residentMiB, beyondVideoMemoryMiB, perDeviceMiB } of rows) {
    const cells = [`${residentMiB} MiB`.padStart(12), `${beyondVideoMemoryMiB} MiB`.padStart(21)];
    if (perDeviceMiB !== undefined)
      cells.push(`${perDeviceMiB} MiB`.padStart(10), `${perDeviceMiB * MIB < PROMISED ? '' : 'missed '}${mib(PROMISED)} MiB`.padStart(11));
    process.stdout.write(`${String(devices).padEnd(7)}${cells.join(' ')}\n`);
  }
}
