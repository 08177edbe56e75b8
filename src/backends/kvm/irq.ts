/**
 * MSI delivery: KVM_SIGNAL_MSI for a call from the device thread, an irqfd behind a GSI route for a message that any
 * thread may raise.
 */
import { PAGE_SIZE } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import { ArmedMsi } from '../../native/armed-msi.js';
import { OwnedFd } from '../../native/fd.js';
import { OwnedMapping } from '../../native/mapping.js';
import { EFD, type Syscalls } from '../../native/syscalls.js';
import { KVM_CONST, KVM_IOCTL, KVM_STRUCT } from './abi.js';

const { kvm_msi: MSI, kvm_irqfd: IRQFD, kvm_irq_routing: ROUTING, kvm_irq_routing_entry: ENTRY } = KVM_STRUCT;

/** Pins of the PIC pair and the IOAPIC: the table that KVM_CREATE_IRQCHIP sets up and KVM_SET_GSI_ROUTING replaces. */
const PIC_PINS = 8;
const IOAPIC_PINS = 24;
const FIRST_MSI_GSI = IOAPIC_PINS;
const IRQFD_DEASSIGN = 1;

interface Route {
  readonly gsi: number;
  readonly address: number;
  readonly data: number;
}

/** The VM's interrupt routes and message injection. */
export class KvmIrq {
  readonly #sys: Syscalls;
  readonly #vm: number;
  /** `struct kvm_msi` at a fixed address: an ioctl with an integer costs 25 ns less than one with a buffer. */
  readonly #message: OwnedMapping;
  readonly #msi: Uint32Array;
  readonly #routes = new Map<number, Route>();
  #closed = false;

  constructor(sys: Syscalls, vmFd: number) {
    this.#sys = sys;
    this.#vm = vmFd;
    this.#message = OwnedMapping.anonymous(sys, PAGE_SIZE, 'the MSI');
    this.#msi = new Uint32Array(this.#message.buffer);
  }

  /** The VM closes: its descriptor may soon be another's, so what is armed only closes its eventfd later. */
  close(): void {
    this.#closed = true;
    this.#message.close();
  }

  /** KVM_SIGNAL_MSI. A guest that blocks the message (its APIC is off) is no error. */
  signal(address: number, data: number): void {
    this.#msi[MSI.address_lo / 4] = address;
    this.#msi[MSI.data / 4] = data;
    const result = this.#sys.ioctl(this.#vm, KVM_IOCTL.KVM_SIGNAL_MSI, this.#message.hva);
    if (result < 0) throw new MptError('HYPERVISOR', 'KVM_SIGNAL_MSI failed', { errno: -result, address });
  }

  /** Routes a new GSI to the message and binds an eventfd to it. */
  arm(address: number, data: number): ArmedMsi {
    const event = new OwnedFd(this.#sys, this.#sys.eventfd(0, EFD.CLOEXEC | EFD.NONBLOCK), 'eventfd');
    let gsi = FIRST_MSI_GSI;
    while (this.#routes.has(gsi)) gsi++;
    try {
      this.#routes.set(gsi, { gsi, address, data });
      this.#setRoutes();
      this.#irqfd(event.fd, gsi, 0);
    } catch (error) {
      this.#routes.delete(gsi);
      event.close();
      throw error;
    }
    return new ArmedMsi(this.#sys, event, address, data, () => {
      if (this.#closed) return;
      this.#irqfd(event.fd, gsi, IRQFD_DEASSIGN);
      this.#routes.delete(gsi);
      this.#setRoutes();
    });
  }

  #irqfd(fd: number, gsi: number, flags: number): void {
    const view = new DataView(new ArrayBuffer(IRQFD.size));
    view.setUint32(IRQFD.fd, fd, true);
    view.setUint32(IRQFD.gsi, gsi, true);
    view.setUint32(IRQFD.flags, flags, true);
    const result = this.#sys.ioctlBuffer(this.#vm, KVM_IOCTL.KVM_IRQFD, new Uint8Array(view.buffer));
    if (result < 0) throw new MptError('HYPERVISOR', 'KVM_IRQFD failed', { errno: -result });
  }

  #setRoutes(): void {
    const chips = 2 * PIC_PINS + IOAPIC_PINS;
    const view = new DataView(new ArrayBuffer(ROUTING.size + (chips + this.#routes.size) * ENTRY.size));
    let at: number = ROUTING.size;
    const chip = (gsi: number, irqchip: number, pin: number): void => {
      view.setUint32(at + ENTRY.gsi, gsi, true);
      view.setUint32(at + ENTRY.type, KVM_CONST.KVM_IRQ_ROUTING_IRQCHIP, true);
      view.setUint32(at + ENTRY['u.irqchip.irqchip'], irqchip, true);
      view.setUint32(at + ENTRY['u.irqchip.pin'], pin, true);
      at += ENTRY.size;
    };
    for (let pin = 0; pin < PIC_PINS; pin++) chip(pin, KVM_CONST.KVM_IRQCHIP_PIC_MASTER, pin);
    for (let pin = 0; pin < PIC_PINS; pin++) chip(PIC_PINS + pin, KVM_CONST.KVM_IRQCHIP_PIC_SLAVE, pin);
    for (let pin = 0; pin < IOAPIC_PINS; pin++) chip(pin, KVM_CONST.KVM_IRQCHIP_IOAPIC, pin);
    for (const { gsi, address, data } of this.#routes.values()) {
      view.setUint32(at + ENTRY.gsi, gsi, true);
      view.setUint32(at + ENTRY.type, KVM_CONST.KVM_IRQ_ROUTING_MSI, true);
      view.setUint32(at + ENTRY['u.msi.address_lo'], address, true);
      view.setUint32(at + ENTRY['u.msi.data'], data, true);
      at += ENTRY.size;
    }
    view.setUint32(ROUTING.nr, chips + this.#routes.size, true);
    const result = this.#sys.ioctlBuffer(this.#vm, KVM_IOCTL.KVM_SET_GSI_ROUTING, new Uint8Array(view.buffer));
    if (result < 0) throw new MptError('HYPERVISOR', 'KVM_SET_GSI_ROUTING failed', { errno: -result });
  }
}
