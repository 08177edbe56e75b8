/**
 * PCI configuration mechanism #1 (PCI Local Bus Specification 3.0, 3.2.2.3.2): the address register at port 0xCF8 and
 * the data window at 0xCFC-0xCFF. Backends whose hypervisor delivers plain port accesses use it to make PCI_CONFIG
 * requests.
 */
import { Bdf } from './addresses.js';
import { IoKind, type IoRequest } from './io-request.js';

const ADDRESS_PORT = 0xcf8;
const DATA_PORT = 0xcfc;
const ENABLE = 0x8000_0000;

export class PciConfigPorts {
  #address = 0;

  /**
   * Turns a data-window access into a PCI_CONFIG request in place.
   * @returns true when the access is finished: it went to the address register, or configuration cycles are disabled.
   *   A read's value then stands in the request.
   */
  translate(request: IoRequest): boolean {
    const { address: port, size } = request;
    // Only dword accesses reach the address register; smaller ones are ordinary port accesses.
    if (port === ADDRESS_PORT && size === 4) {
      if (request.write) this.#address = (request.value[0] as number) & ~0x7f00_0003;
      else request.value[0] = this.#address >>> 0;
      return true;
    }
    if (port < DATA_PORT || port + size > DATA_PORT + 4) return false;
    if ((this.#address & ENABLE) === 0) {
      if (!request.write) request.value[0] = 0xffff_ffff;
      return true;
    }
    request.kind = IoKind.PCI_CONFIG;
    request.bdf = Bdf((this.#address >>> 8) & 0xffff);
    request.address = (this.#address & 0xfc) + (port - DATA_PORT);
    return false;
  }
}
