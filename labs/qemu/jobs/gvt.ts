/**
 * The GVT vGPU in a guest: lspci enumerates it, and a driver in user space blits with it and sleeps until its MSI. uio has no MSI, and
 * Debian's vfio no mode without an IOMMU, so the machine has one: each page that the program gives to the vGPU is a DMA_MAP of its own.
 */
import { findDevice, type Job, type Lab, LINE_LIMIT_S, mustEqual } from '../job.js';

const ID = { VENDOR: '8086', DEVICE: '1616' } as const;

const SCRIPT = `${findDevice(`0x${ID.VENDOR}`, `0x${ID.DEVICE}`)}
lspci -vv -nn -d ${ID.VENDOR}:${ID.DEVICE} 2>/dev/null
echo 'end of lspci'
group=$(basename "$(readlink $device/iommu_group)")
echo ${ID.VENDOR} ${ID.DEVICE} >/sys/bus/pci/drivers/vfio-pci/new_id
gvt-blit "$group" "$(basename $device)" || exit
echo "lspci after: $(lspci -vv -d ${ID.VENDOR}:${ID.DEVICE} 2>/dev/null | grep MSI)"
`;

/** Caching mode: the guest's IOMMU driver tells of new entries too, which is how QEMU learns what to map for the device. */
export const IOMMU = { machine: ['-device', 'intel-iommu,caching-mode=on'], append: 'intel_iommu=on' };

/** What `lspci -vv -nn` must say, line by line as it stands there. */
const LSPCI: readonly (readonly [name: string, line: RegExp])[] = [
  ['lspci: 8086:1616, a VGA-compatible controller of revision 9', /^\S+ .*\[0300\]: .*\[8086:1616\] \(rev 09\)/],
  ['lspci: the subsystem is 8086:2212', /^\tSubsystem: .*\[8086:2212\]$/],
  ['lspci: BAR0 has 16 MiB, 64 bits, not prefetchable', /^\tRegion 0: Memory at [0-9a-f]+ \(64-bit, non-prefetchable\).* \[size=16M\]$/],
  ['lspci: BAR2 has 512 MiB, 64 bits, prefetchable', /^\tRegion 2: Memory at [0-9a-f]+ \(64-bit, prefetchable\).* \[size=512M\]$/],
  ['lspci: interrupt pin A', /^\tInterrupt: pin A routed to IRQ \d+$/],
  ['lspci: an MSI capability of one 32-bit message, off', /^\tCapabilities: \[90\] MSI: Enable- Count=1\/1 Maskable- 64bit-$/],
];

async function run(lab: Lab): Promise<void> {
  const programs = await lab.programs('gvt-blit');
  const modules = ['vfio-pci', 'vfio_iommu_type1'];
  const guestOptions = { ...IOMMU, modules, programs, lspci: true, script: SCRIPT };
  await lab.withGuest({ device: 'gvt', type: 'GVTg_V4_8' }, guestOptions, async (guest) => {
    const line = async (pattern: RegExp): Promise<string> => (await guest.line(pattern, LINE_LIMIT_S))[1] as string;
    const lspci: string[] = [];
    for (let said = await line(/^(.*)$/); said !== 'end of lspci'; said = await line(/^(.*)$/)) lspci.push(said);
    for (const [name, wanted] of LSPCI)
      await lab.check(name, () => {
        if (!lspci.some((said) => wanted.test(said)))
          throw new Error(`no line ${wanted} in: ${lspci.map((said) => said.trim()).join(' | ')}`);
      });

    const bar0 = await line(/^bar0 (.*)$/);
    await lab.check('BAR0 is mapped in the guest, 16 MiB of it', () => mustEqual('its size', bar0, String(16 << 20)));
    const aperture = await line(/^aperture 0x[0-9a-f]+ (\d+)$/);
    await lab.check('PVINFO gives an aperture of 64 MiB', () => mustEqual('its size', aperture, String(64 << 20)));
    const count = Number(await line(/^msi (\d+)$/));
    await lab.check('the MSI came, as often as twice', () => {
      if (!(count >= 1 && count <= 2)) throw new Error(`${count} MSIs were counted for one user interrupt and one context switch`);
    });
    const events = Number(await line(/^events (.*)$/));
    await lab.check('GT0 told the user interrupt of the blitter, and nothing but that and its context switch', () => {
      if ((events & (1 << 16)) === 0 || (events & ~((1 << 16) | (1 << 24))) !== 0) throw new Error(`GT0 IIR was 0x${events.toString(16)}`);
    });
    const fence = await line(/^fence (.*)$/);
    await lab.check('the fence in guest memory has its value when the user interrupt comes', () =>
      mustEqual('the fence', fence, '0x600df00d'),
    );
    const pixels = await line(/^(pixels .*|wrong pixel .*)$/);
    await lab.check('each pixel of the blits in guest memory is right', () => mustEqual('the comparison', pixels, 'pixels 18000 wrong 0'));
    const after = await line(/^lspci after: (.*)$/);
    await lab.check('vfio-pci lets go of the MSI', () => {
      if (!after.includes('MSI: Enable-')) throw new Error(`lspci says ${after}`);
    });
  });
}

export const GVT: Job = { name: 'gvt', timeoutS: 180, run };
