/**
 * Messages to a domain's local APICs. Xen's inject_msi delivers the fixed and the lowest-priority mode; an NMI goes as a
 * trigger to the vCPUs that the message names. SMI, INIT and ExtINT messages Xen delivers to no guest.
 */
import { MptError } from '../../core/errors.js';
import { XEN_CONST as C } from './abi.js';
import type { XenDomain, XenHost } from './domain.js';

/** Bits 8-10 of the data (Intel SDM volume 3, "Message Data Register Format"). */
const DELIVERY = { FIXED: 0, LOWEST_PRIORITY: 1, NMI: 4 } as const;
const DESTINATION_LOGICAL = 4;
const BROADCAST = 0xff;
/** Xen numbers the local APICs of vCPUs 0, 1, 2, … as 0, 2, 4, …. */
const APIC_IDS_A_VCPU = 2;

/** @throws MptError BAD_MSI for what Xen does not deliver, VM_GONE */
export function injectMsi({ xen }: XenHost, domain: XenDomain, address: number, data: number): void {
  const mode = (data >>> 8) & 7;
  if (mode === DELIVERY.FIXED || mode === DELIVERY.LOWEST_PRIORITY) {
    const result = xen.injectMsi(domain.domid, address, data);
    if (result < 0) domain.fail('inject_msi', result, { address });
    return;
  }
  if (mode !== DELIVERY.NMI || (address & DESTINATION_LOGICAL) !== 0)
    throw new MptError('BAD_MSI', `Xen delivers no message of mode ${mode}${mode === DELIVERY.NMI ? ' to a logical destination' : ''}`, {
      address,
      hint: 'the guest must use fixed or lowest-priority delivery',
    });
  const destination = (address >>> 12) & 0xff;
  for (let vcpu = 0; vcpu < domain.vcpus; vcpu++)
    if (destination === BROADCAST || destination === vcpu * APIC_IDS_A_VCPU)
      domain.check('sendtrigger', xen.sendTrigger(domain.domid, C.XEN_DOMCTL_SENDTRIGGER_NMI, vcpu), { address });
}
