/** The in-kernel VHM API under its own names: AcrnGT's glue, written as it was there, drives a real guest. */
import t from 'tap';
import {
  type AcrnMachine,
  MEM_ACCESS_RWX,
  MEM_TYPE_UC,
  MEM_TYPE_WB,
  REQ_MMIO,
  REQ_PCICFG,
  REQ_PORTIO,
  REQ_STATE_PROCESSING,
  REQ_WP,
  REQUEST_READ,
  REQUEST_WRITE,
  VhmApi,
  type VhmRequest,
} from '../../src/backends/acrn/index.js';
import { Gfn, Gpa, PAGE_SIZE } from '../../src/core/addresses.js';
import { NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import { ABIS, attach, MIB, noAcrn, open } from './support.js';

const BAR = 0x40_0000;
const PAGE = 0x2_0000;
const IMAGE_GPA = Gpa(0x1000);
const END_PORT = 0xf4;
const EFAULT = 14;
const EINVAL = 22;

/**
 * In 16-bit code with a 4 MiB reach by a32 prefixes: mov eax, [BAR+8]; mov [PAGE], eax; mov [BAR], eax; out 0xcf8, 0x80001000 (00:02.0);
 * in eax, 0xcfc; out END_PORT, al; hlt. Unreal limits are not needed: ACRN's real mode data segments reach 64 KiB, so the page and the
 * BAR are reached through DS = 0 only below 64 KiB; both stand below it in this VM.
 */
const dword = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
const LOW_BAR = 0xc000;
const LOW_PAGE = 0x8000;
const GUEST = [
  ...[0x66, 0xa1, LOW_BAR & 0xff, LOW_BAR >> 8], //      mov eax, [LOW_BAR]
  ...[0x66, 0xa3, LOW_PAGE & 0xff, LOW_PAGE >> 8], //    mov [LOW_PAGE], eax
  ...[0x66, 0xa3, (LOW_BAR + 8) & 0xff, LOW_BAR >> 8], // mov [LOW_BAR + 8], eax
  ...[0x66, 0xb8, ...dword(0x8000_1000)], //             mov eax, 0x80001000
  ...[0xba, 0xf8, 0x0c, 0x66, 0xef], //                  mov dx, 0xcf8; out dx, eax
  ...[0xba, 0xfc, 0x0c, 0x66, 0xed], //                  mov dx, 0xcfc; in eax, dx
  ...[0xe6, END_PORT, 0xf4], //                          out END_PORT, al; hlt
];
/** RAM up to the BAR, and behind it. */
const RAM = [{ gpa: 0, size: LOW_BAR }];

/** What AcrnGT's emulation thread does with one request. */
function emulate(seen: string[], request: VhmRequest): void {
  const { type, direction, value } = request;
  if (type === REQ_PCICFG) {
    seen.push(`cfg ${request.bus}:${request.dev}.${request.func} ${request.reg} ${direction === REQUEST_READ ? 'r' : 'w'}${request.size}`);
    if (direction === REQUEST_READ) request.value = 0x1616_8086;
    return;
  }
  const name = type === REQ_WP ? 'wp' : type === REQ_MMIO ? 'mmio' : 'pio';
  const data = direction === REQUEST_WRITE ? ` = ${value.toString(16)}` : '';
  seen.push(`${name} ${direction === REQUEST_READ ? 'r' : 'w'}${request.size} ${request.address.toString(16)}${data}`);
  if (direction === REQUEST_READ) request.value = 0x1234_5678;
}

for (const abi of ABIS) {
  t.test(`${abi}: AcrnGT's glue`, { skip: noAcrn }, async (t) => {
    const backend = open({ abi });
    backend.hostInit(NULL_GVT_OPS);
    const machine = backend.createMachine({ ram: RAM }) as AcrnMachine;
    const vhm = new VhmApi(backend);
    const { vmId: vmid } = machine;
    const vm = vhm.find_get_vm(vmid);
    if (vm === null) throw new Error('no VM');
    t.equal(vm.references, 1);
    const info = { vmid: 0, max_vcpu: 0, max_gfn: 0 };
    t.equal(vhm.vhm_get_vm_info(vmid, info), 0);
    t.same(info, { vmid, max_vcpu: 1, max_gfn: LOW_BAR / PAGE_SIZE - 1 });

    // acrngt: create_ioreq_client, intercept 0:2.0, trap BAR0, write-protect a page table page.
    const client = vhm.acrn_ioreq_create_client(vmid, null, 'ioreq gvt-g');
    const rest: string[] = [];
    const fallback = vhm.acrn_ioreq_create_fallback_client(
      vmid,
      (id, vcpu) => {
        const request = vhm.acrn_ioreq_get_reqbuf(id)?.[vcpu];
        if (request === undefined) throw new Error('no request');
        emulate(rest, request);
        t.equal(vhm.acrn_ioreq_complete_request(id, vcpu), 0);
      },
      'acrn-dm',
    );
    t.ok(client > 0 && fallback > client, 'clients have numbers');
    vhm.acrn_ioreq_intercept_bdf(client, 0, 2, 0);
    t.equal(vhm.acrn_ioreq_add_iorange(client, REQ_MMIO, LOW_BAR, LOW_BAR + 0xfff), 0);
    t.equal(vhm.acrn_ioreq_add_iorange(client, REQ_WP, LOW_PAGE, LOW_PAGE + 0xfff), 0);
    t.equal(vhm.write_protect_page(vmid, LOW_PAGE, true), 0);

    machine.boot(IMAGE_GPA, Uint8Array.from(GUEST));
    machine.start();
    const seen: string[] = [];
    const requests = vhm.acrn_ioreq_get_reqbuf(client);
    if (requests === null) throw new Error('no request buffer');
    while (rest.length === 0) {
      const attached = vhm.acrn_ioreq_attach_client(client, 2000);
      if (attached !== 0) {
        t.equal(attached, -110, 'nothing more for this client');
        break;
      }
      requests.forEach((request, vcpu) => {
        if (request.processed !== REQ_STATE_PROCESSING || request.client !== client) return;
        if (request.type === REQ_WP) machine.memory.write(request.address, Uint8Array.of(0x78, 0x56, 0x34, 0x12), 0, 4);
        emulate(seen, request);
        t.equal(vhm.acrn_ioreq_complete_request(client, vcpu), 0);
      });
    }
    t.same(seen, ['mmio r4 c000', 'wp w4 8000 = 12345678', 'mmio w4 c008 = 12345678', 'cfg 0:2.0 0 r4']);
    t.same(rest, ['pio w1 f4 = 86'], 'the end port is the fallback client’s');

    t.equal(vhm.write_protect_page(vmid, LOW_PAGE, false), 0);
    t.equal(vhm.acrn_ioreq_del_iorange(client, REQ_WP, LOW_PAGE, LOW_PAGE + 0xfff), 0);
    t.equal(vhm.acrn_ioreq_del_iorange(client, REQ_WP, LOW_PAGE, LOW_PAGE + 0xfff), -EFAULT, 'once');
    vhm.acrn_ioreq_unintercept_bdf(client);
    vhm.acrn_ioreq_destroy_client(client);
    t.equal(vhm.acrn_ioreq_attach_client(client, 0), -EFAULT, 'a client that is gone');
    t.equal(vhm.acrn_ioreq_get_reqbuf(client), null);
    vhm.acrn_ioreq_clear_request(vm);
    vhm.put_vm(vm);
    t.equal(vm.references, 0);
    machine.close();
    t.equal(vhm.find_get_vm(vmid), null, 'a VM that is gone');
    t.equal(vhm.acrn_ioreq_attach_client(fallback, 0), -EFAULT, 'its clients went with it');
    backend.close();
  });

  t.test(`${abi}: memory and addresses`, { skip: noAcrn }, async (t) => {
    const backend = open({ abi });
    backend.hostInit(NULL_GVT_OPS);
    const machine = backend.createMachine({ ram: [{ gpa: 0, size: 4 * MIB }] }) as AcrnMachine;
    const vhm = new VhmApi(backend);
    const { vmId: vmid } = machine;

    const hpa = vhm.vhm_vm_gpa2hpa(vmid, 0x1234);
    t.ok(hpa > 0 && hpa % PAGE_SIZE === 0x234, 'a physical address with its offset');
    t.equal(vhm.vhm_vm_gpa2hpa(vmid, 4 * MIB), -EFAULT, 'an error is negative, and no frame');
    t.equal(vhm.vhm_vm_gpa2hpa(0, 0x1234_5678), 0x1234_5678, 'the service VM is mapped one to one');
    t.equal(vhm.acrn_hpa2gpa(hpa), hpa);

    const bytes = vhm.map_guest_phys(vmid, 2 * MIB - 2, 4);
    t.equal(bytes?.length, 4, 'across the border of a huge page');
    t.equal(vhm.map_guest_phys(vmid, 4 * MIB - 2, 4), null, 'not past the end');
    t.equal(vhm.mapped_guest_phys(vmid), 1);
    t.equal(vhm.unmap_guest_phys(vmid, 2 * MIB - 2), 0);
    t.equal(vhm.unmap_guest_phys(vmid, 2 * MIB - 2), -3, 'once');
    t.equal(vhm.mapped_guest_phys(vmid), 0, 'nothing is kept');

    const pages = backend.allocateHostPages(1);
    pages.bytes.fill(0x5a);
    const physical = vhm.virt_to_phys(pages.hva);
    t.ok(physical > 0);
    t.equal(
      vhm.add_memory_region(vmid, BAR * 2, physical, PAGE_SIZE, MEM_TYPE_WB, MEM_ACCESS_RWX),
      -95,
      'memory types are absent, and say so',
    );
    t.equal(vhm.capabilities.memoryTypes, false);
    t.equal(vhm.add_memory_region(vmid, 0x1000, physical, PAGE_SIZE, MEM_TYPE_UC, MEM_ACCESS_RWX), -EINVAL, 'not over RAM');
    t.equal(vhm.add_memory_region(vmid, BAR * 2, physical, PAGE_SIZE, MEM_TYPE_UC, MEM_ACCESS_RWX), 0);
    t.equal(vhm.add_memory_region(vmid, BAR * 2, physical, PAGE_SIZE, MEM_TYPE_UC, MEM_ACCESS_RWX), -EINVAL, 'nor over itself');
    t.equal(vhm.vhm_vm_gpa2hpa(vmid, BAR * 2 + 5), physical + 5);
    const handle = attach(backend, machine);
    const [there, beside] = [Gfn((BAR * 2) / PAGE_SIZE), Gfn((BAR * 3) / PAGE_SIZE)];
    t.throws(() => handle.mapGfnToMfn(there, pages.mfn, 1, true), { code: 'OVERLAP' }, 'nor host pages over it');
    handle.mapGfnToMfn(beside, pages.mfn, 1, true);
    t.equal(vhm.add_memory_region(vmid, BAR * 3, physical, PAGE_SIZE, MEM_TYPE_UC, MEM_ACCESS_RWX), -EINVAL, 'nor over host pages');
    handle.mapGfnToMfn(beside, pages.mfn, 1, false);
    t.equal(vhm.add_memory_region(vmid, BAR * 3, physical, PAGE_SIZE, MEM_TYPE_UC, MEM_ACCESS_RWX), 0, 'which are gone');
    t.equal(vhm.del_memory_region(vmid, BAR * 3, PAGE_SIZE), 0);
    t.equal(vhm.write_protect_page(vmid, BAR * 2, true), 0);
    t.equal(vhm.write_protect_page(vmid, BAR * 2, false), 0);
    t.equal(vhm.write_protect_page(vmid, 0x7000_0000, true), -EINVAL, 'nothing is there');
    t.equal(vhm.del_memory_region(vmid, BAR * 2, 2 * PAGE_SIZE), -EINVAL, 'not exactly');
    t.equal(vhm.del_memory_region(vmid, BAR * 2, PAGE_SIZE), 0);
    handle.mapGfnToMfn(there, pages.mfn, 1, true);
    handle.mapGfnToMfn(there, pages.mfn, 1, false);
    t.equal(vhm.write_protect_page(vmid, PAGE, true), 0);
    t.equal(vhm.write_protect_page(vmid, PAGE + 1, true), -EINVAL, 'not a page');

    t.equal(vhm.vhm_inject_msi(vmid, 0xfee0_0000, 0x41), 0);
    t.ok(vhm.vhm_inject_msi(vmid, 2 ** 32 + 0xfee0_0000, 0x41) < 0, 'the high half of the address counts');
    t.equal(vhm.vhm_inject_msi(vmid + 1, 0xfee0_0000, 0x41), -EINVAL, 'no such VM');
    t.equal(vhm.vhm_get_vm_info(vmid + 1, { vmid: 0, max_vcpu: 0, max_gfn: 0 }), -EINVAL);
    t.equal(vhm.acrn_ioreq_create_client(vmid + 1, null, 'x'), -EINVAL);
    const client = vhm.acrn_ioreq_create_client(vmid, null, 'x');
    t.equal(vhm.acrn_ioreq_add_iorange(client, REQ_PORTIO, 8, 7), -EFAULT, 'end before start');
    t.equal(vhm.acrn_ioreq_add_iorange(client + 1, REQ_PORTIO, 7, 8), -EFAULT);
    t.equal(vhm.acrn_ioreq_complete_request(client, 0), -EINVAL, 'no request is its own');
    t.equal(vhm.acrn_ioreq_complete_request(client, 16), -EINVAL);
    t.ok(vhm.acrn_ioreq_create_fallback_client(vmid, null, 'one') > 0);
    t.equal(vhm.acrn_ioreq_create_fallback_client(vmid, null, 'two'), -EINVAL, 'one a VM');
    backend.close();
  });
}

if (ABIS.length === 0) t.pass('no ACRN', { skip: noAcrn });
