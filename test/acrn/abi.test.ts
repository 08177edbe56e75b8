/**
 * Every number of backends/acrn/abi.ts that <linux/acrn.h> has, asked of the installed header by a program that gcc compiles. The
 * numbers of VHM no header has: they are golden values (gvt.md 6.3; projectacrn/acrn-kernel, include/linux/vhm/vhm_ioctl_defs.h).
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ACRN_CONST, ACRN_HYPERVISOR, ACRN_STRUCT, HSM_IOCTL, VHM_IOCTL, VHM_STRUCT } from '../../src/backends/acrn/abi.js';

const gcc = spawnSync('gcc', ['--version']).status === 0;
const skip = !existsSync('/usr/include/linux/acrn.h') ? 'no linux/acrn.h here (package linux-libc-dev)' : gcc ? false : 'no gcc here';

t.test('HSM: layouts and numbers against <linux/acrn.h>', { skip }, async (t) => {
  const expected: string[] = [];
  const lines: string[] = [];
  const ask = (label: string, expression: string, value: number): void => {
    expected.push(`${label} ${value}`);
    lines.push(`printf("${label} %llu\\n", (unsigned long long)(${expression}));`);
  };
  for (const [name, fields] of Object.entries(ACRN_STRUCT as Readonly<Record<string, Readonly<Record<string, number>>>>))
    for (const [field, value] of Object.entries(fields)) {
      if (field === 'size') ask(`${name} size`, `sizeof(struct ${name})`, value);
      else ask(`${name}.${field}`, `offsetof(struct ${name}, ${field})`, value);
    }
  for (const [name, value] of Object.entries(HSM_IOCTL)) ask(`ACRN_IOCTL_${name}`, `(unsigned)ACRN_IOCTL_${name}`, value);
  for (const [name, value] of Object.entries(ACRN_CONST)) ask(name, `(unsigned)${name}`, value);
  const folder = mkdtempSync(join(tmpdir(), 'mpt-abi-'));
  try {
    const [source, binary] = [join(folder, 'abi.c'), join(folder, 'abi')];
    const includes = ['stdio.h', 'stddef.h', 'sys/ioctl.h', 'linux/acrn.h'].map((header) => `#include <${header}>`).join('\n');
    writeFileSync(source, `${includes}\nint main(void) {\n${lines.join('\n')}\n}\n`);
    const compiled = spawnSync('gcc', ['-o', binary, source], { encoding: 'utf8' });
    t.equal(compiled.status, 0, compiled.stderr);
    t.same(spawnSync(binary, { encoding: 'utf8' }).stdout.trim().split('\n'), expected);
    t.ok(expected.length > 90, `${expected.length} numbers`);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

t.test('VHM: golden values', async (t) => {
  const nr = Object.fromEntries(Object.entries(VHM_IOCTL).map(([name, request]) => [name, request - 0x4300_0000]));
  t.same(nr, {
    GET_API_VERSION: 0x00,
    CREATE_VM: 0x10,
    DESTROY_VM: 0x11,
    START_VM: 0x12,
    PAUSE_VM: 0x13,
    CREATE_VCPU: 0x14,
    RESET_VM: 0x15,
    SET_VCPU_REGS: 0x16,
    INJECT_MSI: 0x23,
    VM_INTR_MONITOR: 0x24,
    SET_IRQLINE: 0x25,
    SET_IOREQ_BUFFER: 0x30,
    NOTIFY_REQUEST_FINISH: 0x31,
    CREATE_IOREQ_CLIENT: 0x32,
    ATTACH_IOREQ_CLIENT: 0x33,
    DESTROY_IOREQ_CLIENT: 0x34,
    CLEAR_VM_IOREQ: 0x35,
    SET_MEMSEG: 0x41,
    UNSET_MEMSEG: 0x42,
    IOEVENTFD: 0x70,
    IRQFD: 0x71,
  });
  t.same(VHM_STRUCT, {
    vm_memmap: { size: 40, type: 0, using_vma: 4, gpa: 8, hpa: 16, len: 24, prot: 32 },
    ioreq_notify: { size: 8, client_id: 0, vcpu: 4 },
    acrn_create_vcpu: { size: 8, vcpu_id: 0, pcpu_id: 2 },
    api_version: { size: 8, major_version: 0, minor_version: 4 },
    vhm_request: { size: 256, client: 132, processed: 136 },
  });
});

t.test('the two ABIs fit together', async (t) => {
  const shared = Object.keys(HSM_IOCTL) as (keyof typeof HSM_IOCTL)[];
  for (const name of shared) {
    t.equal(HSM_IOCTL[name] & 0xff, VHM_IOCTL[name] & 0xff, `${name} has one number in both`);
    t.equal((HSM_IOCTL[name] >>> 8) & 0xff, 0xa2, name);
  }
  t.equal(VHM_STRUCT.vhm_request.size, ACRN_STRUCT.acrn_io_request.size);
  t.equal(VHM_STRUCT.vhm_request.processed, ACRN_STRUCT.acrn_io_request.processed);
  t.equal(VHM_STRUCT.vhm_request.client, ACRN_STRUCT.acrn_io_request.kernel_handled, 'one word, two meanings');
  t.equal(ACRN_HYPERVISOR.INTR_MONITOR.size, 8 + ACRN_HYPERVISOR.INTR_MONITOR.entries * 8);
});
