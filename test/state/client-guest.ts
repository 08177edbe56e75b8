/** A guest behind a vfio-user client: its memory is a shared file, its registers are regions, its interrupts an eventfd. */
import { PAGE_SIZE } from '../../src/core/addresses.js';
import { IrqIndex, RegionIndex } from '../../src/core/vfio/device.js';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { OwnedMapping } from '../../src/native/mapping.js';
import type { VfioUserClient } from '../../src/vfio/client.js';
import { counted, eventfd, memfd } from '../vfio/support.js';
import { BAR0, type Guest, RAM } from './queued-work.js';

const SET_EVENTFD_TRIGGER = 0x24;
const RAM_BYTES = RAM[0]?.size as number;
const BAR0_SIZE = 0x100_0000;

export class ClientGuest implements Guest {
  readonly client: VfioUserClient;
  readonly #memory: number;
  readonly #mapping: OwnedMapping;
  readonly #words: Uint32Array;
  readonly #event = eventfd();
  readonly #idle: () => void;
  #interrupts = 0;

  /** @param idle called while the guest sleeps. @param memory of a guest that comes from another server */
  constructor(client: VfioUserClient, idle: () => void, memory = memfd(RAM_BYTES)) {
    this.client = client;
    this.#idle = idle;
    this.#memory = memory;
    this.#mapping = OwnedMapping.file(sys, memory, RAM_BYTES, 'guest memory');
    this.#words = new Uint32Array(this.#mapping.buffer);
    client.version();
    client.dmaMap(0, RAM_BYTES, memory);
    client.setIrqs(SET_EVENTFD_TRIGGER, IrqIndex.MSI, 0, 1, { fds: [this.#event] });
  }

  /** The same guest memory behind another client; this one is closed. */
  reconnect(client: VfioUserClient): ClientGuest {
    const guest = new ClientGuest(client, this.#idle, this.#memory);
    this.#end();
    return guest;
  }

  read(gpa: number, size: 1 | 2 | 4): number {
    if (gpa < RAM_BYTES) return this.#words[gpa >>> 2] as number;
    return Buffer.from(this.client.read(RegionIndex.BAR0, this.#inBar(gpa), size)).readUIntLE(0, size);
  }

  write(gpa: number, size: 1 | 2 | 4, value: number): void {
    if (gpa < RAM_BYTES) this.#words[gpa >>> 2] = value;
    else this.client.write(RegionIndex.BAR0, this.#inBar(gpa), bytesOf(size, value));
  }

  write64(gpa: number, low: number, high: number): void {
    if (gpa < RAM_BYTES) this.#words.set([low, high], gpa >>> 2);
    else this.client.write(RegionIndex.BAR0, this.#inBar(gpa), Buffer.concat([bytesOf(4, low), bytesOf(4, high)]));
  }

  stream(gpa: number, dwords: ArrayLike<number>): void {
    for (let i = 0; i < dwords.length; i++) this.write(gpa + i * 4, 4, dwords[i] as number);
  }

  stream64(gpa: number, dwords: ArrayLike<number>): void {
    for (let i = 0; i < dwords.length; i += 2) this.write64(gpa + i * 4, dwords[i] as number, dwords[i + 1] as number);
  }

  pciWrite(_bdf: number, register: number, size: 1 | 2 | 4, value: number): void {
    this.client.write(RegionIndex.CONFIG, register, bytesOf(size, value));
  }

  interruptCount(): number {
    this.#interrupts += counted(this.#event);
    return this.#interrupts;
  }

  waitInterrupt(_vector: number, count: number): void {
    const end = performance.now() + 20_000;
    while (this.interruptCount() < count) {
      if (performance.now() > end) throw new Error(`interrupt ${count} did not come, ${this.#interrupts} did`);
      this.#idle();
    }
  }

  close(): void {
    this.#end();
    sys.close(this.#memory);
  }

  #end(): void {
    this.client.close();
    this.#mapping.close();
    sys.close(this.#event);
  }

  #inBar(gpa: number): number {
    if (gpa < BAR0 || gpa >= BAR0 + BAR0_SIZE) throw new Error(`0x${gpa.toString(16)} is not ${PAGE_SIZE}`);
    return gpa - BAR0;
  }
}

function bytesOf(size: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0, 0);
  return bytes.subarray(0, size);
}
