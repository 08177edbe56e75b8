/** PCI configuration mechanism #1 (PCI Local Bus Specification 3.0, 3.2.2.3.2). */
import t from 'tap';
import { bdf } from '../../src/core/addresses.js';
import { IoKind, IoRequest } from '../../src/core/io-request.js';
import { PciConfigPorts } from '../../src/core/pci-ports.js';

/** One port access; a read starts with a value that must not come back by accident. */
function access(ports: PciConfigPorts, port: number, size: number, value?: number): { done: boolean; request: IoRequest } {
  const request = new IoRequest();
  Object.assign(request, { kind: IoKind.PIO, address: port, size, write: value !== undefined });
  request.value[0] = value ?? 0x5a5a_5a5a;
  return { done: ports.translate(request), request };
}

t.test('the address register keeps enable, bus, device, function and the dword number', async (t) => {
  const ports = new PciConfigPorts();
  t.equal(access(ports, 0xcf8, 4).request.value[0], 0, 'zero after reset');
  for (const [written, kept] of [
    [0xffff_ffff, 0x80ff_fffc],
    [0x8000_1013, 0x8000_1010],
    [0x0000_1000, 0x0000_1000],
    [0, 0],
  ] as const) {
    t.ok(access(ports, 0xcf8, 4, written).done);
    const { done, request } = access(ports, 0xcf8, 4);
    t.ok(done);
    t.equal(request.value[0], kept, `0x${written.toString(16)}`);
    t.equal(request.kind, IoKind.PIO);
  }
});

t.test('smaller accesses of 0xcf8-0xcfb are ordinary port accesses', async (t) => {
  const ports = new PciConfigPorts();
  access(ports, 0xcf8, 4, 0x8000_1000);
  for (const [port, size] of [
    [0xcf8, 1],
    [0xcf8, 2],
    [0xcf9, 1],
    [0xcfa, 2],
    [0xcfb, 1],
  ] as const) {
    const { done, request } = access(ports, port, size, 0xff);
    t.notOk(done, `port ${port.toString(16)} size ${size}`);
    t.equal(request.kind, IoKind.PIO);
    t.equal(request.address, port);
  }
  t.equal(access(ports, 0xcf8, 4).request.value[0], 0x8000_1000, 'untouched');
});

t.test('the data window makes configuration requests of every size and byte', async (t) => {
  const ports = new PciConfigPorts();
  const target = bdf(0x12, 0x1f, 7);
  access(ports, 0xcf8, 4, 0x8000_0000 | (target << 8) | 0xfc);
  for (const size of [1, 2, 4])
    for (let byte = 0; byte + size <= 4; byte++)
      for (const value of [undefined, 0x1234_5678]) {
        const { done, request } = access(ports, 0xcfc + byte, size, value);
        t.notOk(done);
        t.match(request, { kind: IoKind.PCI_CONFIG, bdf: target, address: 0xfc + byte, size, write: value !== undefined });
        if (value !== undefined) t.equal(request.value[0], value);
      }
});

t.test('a disabled window reads all ones and ignores writes', async (t) => {
  const ports = new PciConfigPorts();
  access(ports, 0xcf8, 4, 0x0000_1000);
  const read = access(ports, 0xcfc, 4);
  t.ok(read.done);
  t.equal(read.request.value[0], 0xffff_ffff);
  t.equal(read.request.kind, IoKind.PIO);
  t.ok(access(ports, 0xcfd, 1, 0x12).done);
});

t.test('ports around the window, and accesses that leave it, are left alone', async (t) => {
  const ports = new PciConfigPorts();
  access(ports, 0xcf8, 4, 0x8000_1000);
  for (const [port, size] of [
    [0xcf4, 4],
    [0xcf6, 4],
    [0xcfa, 4],
    [0xcfe, 4],
    [0xcff, 2],
    [0xd00, 1],
    [0, 1],
    [0xffff, 1],
  ] as const)
    for (const value of [undefined, 1]) {
      const { done, request } = access(ports, port, size, value);
      t.notOk(done, `port ${port.toString(16)} size ${size}`);
      t.equal(request.kind, IoKind.PIO);
      t.equal(request.address, port);
    }
});
