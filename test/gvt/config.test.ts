/** The PCI configuration space: rules of each field on both sides, BARs, trap areas, MSI capability. */
import t from 'tap';
import { Status } from '../../src/core/gvt-ops.js';
import { BAR0, BAR2, fixture, HIGH_RAM } from './memory-backend.js';

const MIB = 0x10_0000;
/** The vGPU's slice of BAR2: the host keeps the first 128 MiB. */
const SLICE = BAR2 + 128 * MIB;

t.test('identity and the fixed header', async (t) => {
  const { configRead } = fixture({ placed: false });
  t.equal(configRead(0x00, 4), 0x1616_8086, 'Broadwell GT2');
  t.equal(configRead(0x08, 4), 0x0300_0009, 'display controller, revision 9');
  t.equal(configRead(0x0e, 1), 0, 'single function, header type 0');
  t.equal(configRead(0x50, 2), 0xc0, 'GMCH: 8 MiB of entries, no stolen memory');
  t.equal(configRead(0x34, 1), 0x90);
  t.equal(configRead(0x90, 4), 0x0000_0005, 'MSI, last in the list, off, one 32-bit message');
  t.equal(fixture({ ggtt: 2 * 1024 * MIB }).configRead(0x50, 2), 0x80, 'a 2 GiB GGTT');
});

t.test('sizes and ends', async (t) => {
  const { gvt, vgpu, configRead, configWrite } = fixture({ placed: false });
  const value = new Uint32Array(2);
  for (const size of [0, 3, 8, 16]) t.equal(gvt.emulateCfgRead(vgpu.id, 0, value, size), Status.EINVAL, `read of ${size}`);
  for (const [offset, size] of [
    [4096, 1],
    [4095, 2],
    [4093, 4],
    [-1, 4],
    [2 ** 32, 4],
  ] as const) {
    t.equal(gvt.emulateCfgRead(vgpu.id, offset, value, size), Status.EINVAL, `read of ${size} at ${offset}`);
    t.equal(gvt.emulateCfgWrite(vgpu.id, offset, value, size), Status.EINVAL, `write of ${size} at ${offset}`);
  }
  t.equal(configWrite(4092, 4, 0x1234_5678), Status.OK);
  t.equal(configRead(4092, 4), 0x1234_5678, 'the last dword is storage');
  t.equal(configRead(4095, 1), 0x12);
  t.equal(configRead(4093, 2), 0x3456, 'bytes of a read need not be aligned');
});

t.test('what may be written', async (t) => {
  const { configRead, configWrite } = fixture({ placed: false });
  const before = new Map<number, number>();
  for (let offset = 0; offset < 0x40; offset += 4) before.set(offset, configRead(offset, 4));
  for (let offset = 0; offset < 0x40; offset += 4)
    if (offset < 0x10 || offset >= 0x28) t.equal(configWrite(offset, 4, 0xffff_ffff), Status.OK);
  t.equal(configRead(0x04, 2), 0x07ff, 'command');
  t.equal(configRead(0x06, 2), 0x0010, 'status cannot be set');
  t.equal(configRead(0x0c, 4), 0xff, 'cache line size only');
  t.equal(configRead(0x30, 4), 0, 'no ROM');
  t.equal(configRead(0x3c, 4), 0x01ff, 'interrupt line only');
  for (const offset of [0x00, 0x08, 0x28, 0x2c, 0x34, 0x38]) t.equal(configRead(offset, 4), before.get(offset), `0x${offset.toString(16)}`);
  configWrite(0x40, 4, 0xa5a5_5a5a);
  t.equal(configRead(0x40, 4), 0xa5a5_5a5a, 'device-specific bytes are storage');
  configWrite(0x50, 2, 0);
  t.equal(configRead(0x50, 2), 0xc0, 'GMCH is locked');
  configWrite(0xfc, 4, 0x1000);
  t.equal(configRead(0xfc, 4), 0, 'no OpRegion without set_opregion');
  for (const offset of [0x10, 0x14, 0x18, 0x24, 0x30, 0xe8, 0xfc])
    for (const [at, size] of [
      [0, 1],
      [0, 2],
      [3, 1],
      [1, 4],
      [-1, 2],
    ] as const)
      t.equal(configWrite(offset + at, size, 0), Status.EINVAL, `write of ${size} at 0x${(offset + at).toString(16)}`);
});

t.test('BAR sizing', async (t) => {
  const { configRead, configWrite, backend } = fixture();
  t.equal(backend.traps.size, 2);
  const sizeOf = (offset: number): [number, number] => {
    const old = [configRead(offset, 4), configRead(offset + 4, 4)] as const;
    configWrite(offset, 4, 0xffff_ffff);
    t.equal(backend.traps.size, 1, 'the size mask is no address');
    configWrite(offset + 4, 4, 0xffff_ffff);
    const answer: [number, number] = [configRead(offset, 4), configRead(offset + 4, 4)];
    t.equal(backend.traps.size, 1, 'a BAR that is being sized decodes nothing');
    configWrite(offset, 4, old[0]);
    t.equal(backend.traps.size, 1, 'nor while one half is still all ones');
    configWrite(offset + 4, 4, old[1]);
    t.equal(backend.traps.size, 2);
    return answer;
  };
  t.strictSame(sizeOf(0x10), [0xff00_0004, 0xffff_ffff], '16 MiB, 64-bit');
  t.strictSame(sizeOf(0x18), [0xe000_000c, 0xffff_ffff], '512 MiB, 64-bit, prefetchable');
  for (const offset of [0x20, 0x24]) {
    configWrite(offset, 4, 0xffff_ffff);
    t.equal(configRead(offset, 4), 0, 'not implemented');
  }
  configWrite(0x10, 4, 0x1234_5678);
  t.equal(configRead(0x10, 4), 0x1200_0004, 'low address bits and type are hardwired');
});

t.test('the memory bit and moving BARs', async (t) => {
  const { configWrite, configRead, backend, vgpu } = fixture({ placed: false });
  configWrite(0x10, 4, BAR0);
  configWrite(0x18, 4, BAR2);
  t.equal(backend.traps.size, 0, 'nothing is trapped before the memory bit');
  configWrite(0x04, 2, 4);
  t.equal(backend.traps.size, 0, 'bus master is another bit');
  configWrite(0x04, 1, 6);
  const placed = [
    [BAR0, BAR0 + 16 * MIB - 1],
    [SLICE, SLICE + 64 * MIB - 1],
  ];
  t.strictSame([...backend.traps], placed, 'BAR0 whole, BAR2 only the slice');
  configWrite(0x05, 1, 4);
  t.strictSame([...backend.traps], placed, 'the high command byte changes nothing');
  configWrite(0x10, 4, 0xf000_0000);
  t.strictSame([...backend.traps.keys()].sort(), [SLICE, 0xf000_0000], 'moved');
  t.equal(vgpu.config.bars.bar0, 0xf000_0000);
  configWrite(0x14, 4, 0x12);
  t.ok(backend.traps.has(0x12_f000_0000), 'above 4 GiB');
  configWrite(0x14, 4, 0x0010_0000);
  t.equal(backend.traps.size, 1, 'past 2^52 nothing is mapped');
  t.equal(configRead(0x14, 4), 0x0010_0000, 'but the BAR reads back');
  configWrite(0x14, 4, 0x000f_ffff);
  configWrite(0x10, 4, 0xff00_0000);
  t.ok(backend.traps.has(2 ** 52 - 16 * MIB), 'the last 16 MiB below 2^52');
  configWrite(0x04, 2, 0);
  t.equal(backend.traps.size, 0);
  configWrite(0x04, 2, 2);
  configWrite(0x04, 2, 2);
  t.equal(backend.traps.size, 2, 'no second edge');
});

t.test('a BAR on top of RAM or of the other BAR is a guest mistake', async (t) => {
  const { configWrite, configRead, backend, vgpu, mistakes, gvt } = fixture();
  configWrite(0x10, 4, 0x0000_0000);
  t.equal(backend.traps.size, 1, 'address 0 is no place');
  t.equal(vgpu.statistics.guestErrors, 0);
  t.equal(configWrite(0x18, 4, 0), Status.OK);
  configWrite(0x10, 4, BAR0);
  t.equal(configWrite(0x18, 4, 0xe000_0000), Status.OK);
  // BAR2's slice begins 128 MiB behind its base: this puts the slice on BAR0's place.
  configWrite(0x10, 4, 0xe800_0000);
  t.equal(vgpu.statistics.guestErrors, 1);
  t.match(mistakes[0], /BAR0 at 0xe8000000 is not mapped: .*overlaps the trap area/);
  t.equal(configRead(0x10, 4), 0xe800_0004);
  t.equal(gvt.emulateMmioRead(vgpu.id, 0xe800_0000 as never, new Uint32Array(2), 4), Status.OK, 'the slice answers there');
  configWrite(0x10, 4, BAR0 - 16 * MIB);
  t.equal(backend.traps.size, 2, 'moving it away cures it');

  configWrite(0x10, 4, HIGH_RAM);
  t.match(mistakes.at(-1), /BAR0 at 0x20000000 is not mapped: .*overlaps guest RAM/);
  t.equal(vgpu.config.bars.bar0, Number.POSITIVE_INFINITY);
  backend.broken.add('trap');
  t.equal(configWrite(0x10, 4, BAR0 - 16 * MIB), Status.OK, 'a hypervisor that refuses is no failure of the access either');
  t.equal(vgpu.statistics.guestErrors, 3);
});

t.test('without trap areas the BARs decode all the same', async (t) => {
  const { backend, read } = fixture({ capabilities: { setTrapArea: false } });
  t.equal(backend.traps.size, 0);
  t.equal(read(0x9120), 0x0200_0000);
});

t.test('MSI capability', async (t) => {
  const { configRead, configWrite, vgpu } = fixture();
  configWrite(0x90, 4, 0xffff_ffff);
  t.equal(configRead(0x90, 4), 0x0071_0005, 'enable and multiple-message enable can be written, the rest not');
  configWrite(0x94, 4, 0xfee0_1003);
  configWrite(0x98, 2, 0x4041);
  t.equal(vgpu.config.msiAddress, 0xfee0_1000, 'address bits 1:0 are 0');
  t.equal(vgpu.config.msiData, 0x4041);
  t.equal(vgpu.config.msiControl, 0x71);
});

t.test('reset', async (t) => {
  const { configRead, configWrite, gvt, vgpu, backend } = fixture();
  configWrite(0x92, 2, 1);
  gvt.reset(vgpu);
  t.equal(backend.traps.size, 0);
  t.equal(configRead(0x04, 2), 0);
  t.equal(configRead(0x10, 4), 4);
  t.equal(configRead(0x18, 4), 0xc);
  t.equal(configRead(0x92, 2), 0);
  t.equal(configRead(0x50, 2), 0xc0);
});
