/**
 * Memory BARs of PCI functions in dom0 that guests may be given by map_gfn_to_mfn: those of the functions named in the
 * backend's options. Their frames are machine frames.
 */
import { PAGE_SIZE } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import { RangeSet } from '../../core/ranges.js';
import { O, type Syscalls } from '../../native/syscalls.js';

const FUNCTION_NAME = /^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;
/** Bits of the third column of `resource` (linux/ioport.h): memory space. */
const IORESOURCE_MEM = 0x200n;
/** Standard BARs; the lines after them are the ROM and bridge windows. */
const BARS = 6;

export class PciBars {
  readonly #frames = new RangeSet<string>();

  /** @param functions names as in /sys/bus/pci/devices, `0000:00:02.0` @throws MptError INVALID_ARGUMENT, IO */
  constructor(sys: Syscalls, functions: readonly string[]) {
    for (const name of functions) {
      if (!FUNCTION_NAME.test(name))
        throw new MptError('INVALID_ARGUMENT', `'${name}' is no PCI function`, {
          hint: 'write it as in /sys/bus/pci/devices: 0000:00:02.0',
        });
      const path = `/sys/bus/pci/devices/${name}/resource`;
      const lines = readText(sys, path).split('\n').slice(0, BARS);
      for (const line of lines) {
        const [start = 0n, end = 0n, flags = 0n] = line.split(' ').map((word) => BigInt(word === '' ? 0 : word));
        if (start === 0n || (flags & IORESOURCE_MEM) === 0n) continue;
        this.#frames.add(Number(start) / PAGE_SIZE, Math.floor(Number(end) / PAGE_SIZE), name);
      }
    }
  }

  /** True when one BAR holds all of [mfn, mfn + nr). */
  covers(mfn: number, nr: number): boolean {
    const range = this.#frames.find(mfn);
    return range !== undefined && Number.isInteger(range.start) && mfn + nr - 1 <= range.end;
  }
}

function readText(sys: Syscalls, path: string): string {
  const fd = sys.open(path, O.RDONLY | O.CLOEXEC);
  if (fd < 0) throw new MptError('IO', `${path} cannot be read`, { errno: -fd, hint: 'name a PCI function of dom0: lspci -D' });
  const bytes = new Uint8Array(PAGE_SIZE);
  const length = sys.read(fd, bytes);
  sys.close(fd);
  return new TextDecoder().decode(bytes.subarray(0, Math.max(length, 0)));
}
