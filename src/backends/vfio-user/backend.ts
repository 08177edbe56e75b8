/** The backend with VMs of our own: interpreted, or in a QEMU that is started for them. */
import type { Capabilities } from '../../core/capabilities.js';
import type { Machine, MachineSpec } from '../../core/machine.js';
import type { ServerCalls } from '../../vfio/server.js';
import { InterpretedMachine } from './machine.js';
import { capabilitiesOf } from './probe.js';
import { QemuMachine } from './qemu-machine.js';
import { ServingBackend, type ServingOptions } from './serving.js';

export interface VfioUserOptions extends ServingOptions {
  /** Words that start a QEMU of version 10.1 or later: `createMachine` then makes VMs in it, and not in our interpreter. */
  readonly qemu?: readonly string[];
}

export class VfioUserBackend extends ServingBackend {
  override readonly capabilities: Readonly<Capabilities>;
  readonly #qemu: readonly string[] | undefined;

  constructor(calls: ServerCalls, { qemu, ...options }: VfioUserOptions = {}) {
    super(calls, options);
    this.#qemu = qemu;
    this.capabilities = capabilitiesOf(qemu !== undefined);
  }

  protected override doCreateMachine(spec: MachineSpec): Machine {
    const vmId = this.newVmId();
    return this.add(this.#qemu === undefined ? new InterpretedMachine(this, vmId, spec) : new QemuMachine(this, vmId, spec, this.#qemu));
  }
}
