/**
 * The guest's side of a function, as a virtual machine monitor has it: a client of the server, the BARs that the guest placed, the
 * eventfd of its interrupt. It does what QEMU's vfio-user-pci does.
 */
import { IrqIndex, RegionIndex } from '../../core/vfio/device.js';
import { IrqSetFlag } from '../../core/vfio/irqs.js';
import { EventFd } from '../../native/eventfd.js';
import { OwnedFd } from '../../native/fd.js';
import { EFD, type Syscalls } from '../../native/syscalls.js';
import type { VfioUserClient } from '../../vfio/client.js';
import { PCI } from './abi.js';
import { findMsi, msiEnabled, msiMessage } from './msi-capability.js';

interface Bar {
  readonly region: number;
  readonly size: number;
  /** Offset of its first dword in configuration space. */
  readonly offset: number;
  readonly wide: boolean;
}

/** Bytes of configuration space that are kept beside the server's: what a BAR or an interrupt depends on. */
const CONFIG_SIZE = 256;
const MEMORY_BITS = 0xf;
const TYPE_64 = 0x4;

export class GuestFunction {
  readonly client: VfioUserClient;
  readonly #sys: Syscalls;
  readonly #config = new DataView(new ArrayBuffer(CONFIG_SIZE));
  readonly #bars: Bar[] = [];
  /** Offset of the MSI capability; 0 when there is none. */
  readonly #msi: number;
  #event: EventFd | undefined;

  /** Asks the server for everything that must be known. @throws what the client throws */
  constructor(client: VfioUserClient, sys: Syscalls, ram: readonly { readonly gpa: number; readonly size: number; readonly fd: number }[]) {
    this.client = client;
    this.#sys = sys;
    client.version({ max_msg_fds: 16, max_data_xfer_size: 0x10_0000, pgsizes: 4096 });
    for (const { gpa, size, fd } of ram) client.dmaMap(gpa, size, fd);
    client.deviceInfo();
    const config = client.regionInfo(RegionIndex.CONFIG);
    const length = Math.min(config.size, CONFIG_SIZE);
    new Uint8Array(this.#config.buffer).set(client.read(RegionIndex.CONFIG, 0, length));
    for (let region = 0; region <= RegionIndex.BAR5; region++) {
      const { size, fd } = client.regionInfo(region);
      if (fd !== undefined) sys.close(fd);
      const offset = PCI.BAR0 + 4 * region;
      if (size > 0) this.#bars.push({ region, size, offset, wide: (this.#config.getUint32(offset, true) & TYPE_64) !== 0 });
    }
    this.#msi = client.irqInfo(IrqIndex.MSI).count > 0 ? findMsi(this.#config) : 0;
  }

  /** The region and offset that an access to guest-physical memory reaches, or undefined: none of this function's. */
  decode(address: number, size: number): { readonly region: number; readonly offset: number } | undefined {
    if ((this.#config.getUint16(PCI.COMMAND, true) & PCI.COMMAND_MEMORY) === 0) return undefined;
    for (const bar of this.#bars) {
      const low = (this.#config.getUint32(bar.offset, true) & ~MEMORY_BITS) >>> 0;
      const base = low + (bar.wide ? this.#config.getUint32(bar.offset + 4, true) * 2 ** 32 : 0);
      // A BAR at 0 has not been placed.
      if (base !== 0 && address >= base && address + size <= base + bar.size) return { region: bar.region, offset: address - base };
    }
    return undefined;
  }

  /** The guest wrote configuration space: kept, with a BAR's size bits as the hardware has them. */
  configWritten(offset: number, size: number, value: number): void {
    if (offset + size > CONFIG_SIZE) return;
    for (let i = 0; i < size; i++) this.#config.setUint8(offset + i, value >>> (8 * i));
    for (const bar of this.#bars)
      if (offset < bar.offset + 4 && offset + size > bar.offset) {
        const low = this.#config.getUint32(bar.offset, true) & ~(bar.size - 1);
        this.#config.setUint32(bar.offset, low | (bar.wide ? TYPE_64 : 0), true);
      }
    if (this.#msi !== 0 && offset < this.#msi + 16 && offset + size > this.#msi) this.#armMsi();
  }

  /** The interrupt message that the device raised since the last call, or undefined. */
  takeInterrupt(): { readonly address: number; readonly data: number } | undefined {
    if (this.#event?.consume() !== true) return undefined;
    return msiMessage(this.#config, this.#msi);
  }

  close(): void {
    this.client.close();
    this.#event?.close();
  }

  /** Gives the device an eventfd while the guest has the interrupt enabled. */
  #armMsi(): void {
    const enabled = msiEnabled(this.#config, this.#msi);
    if (enabled === (this.#event !== undefined)) return;
    if (!enabled) {
      this.client.setIrqs(IrqSetFlag.DATA_NONE | IrqSetFlag.TRIGGER, IrqIndex.MSI, 0, 0);
      this.#event?.close();
      this.#event = undefined;
      return;
    }
    const fd = new OwnedFd(this.#sys, this.#sys.eventfd(0, EFD.CLOEXEC | EFD.NONBLOCK), 'eventfd').fd;
    this.#event = EventFd.adopt(this.#sys, fd);
    this.client.setIrqs(IrqSetFlag.DATA_EVENTFD | IrqSetFlag.TRIGGER, IrqIndex.MSI, 0, 1, { fds: [fd] });
  }
}
