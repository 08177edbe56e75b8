/** Every size, offset and number of backends/xen/abi.ts against Xen's headers, as gcc sees them. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { XEN_CONST, XEN_IOCTL, XEN_STRUCT, XENCTRL } from '../../src/backends/xen/abi.js';

const tree = process.env['MPT_LAB_TREE'] ?? '';
const include = join(tree, '/usr/include');
const skip = existsSync(join(include, 'xenctrl.h')) ? false : 'no xenctrl.h here (package libxen-dev); the lab has it';

const HEADERS = [
  'stdio.h',
  'stddef.h',
  'stdint.h',
  'sys/ioctl.h',
  'xenctrl.h',
  'xen/hvm/ioreq.h',
  'xen/hvm/dm_op.h',
  'xen/hvm/save.h',
  'xen/grant_table.h',
  'xen/memory.h',
  'xen/sys/privcmd.h',
  'xen/sys/evtchn.h',
];
/** Types that are typedefs only. */
const typeOf = (name: string): string =>
  name.startsWith('privcmd_') || name.startsWith('xc_')
    ? name.replace(/(_t)?$/, '_t')
    : name === 'grant_entry_v1'
      ? 'grant_entry_v1_t'
      : `struct ${name}`;
/** Bit fields have no offset; their byte is told by the fields around them. */
const BIT_FIELDS = new Set(['ioreq.flags']);
const COMPUTED: Readonly<Record<string, string>> = {
  HVM_SAVE_CODE_END: 'HVM_SAVE_CODE(END)',
  HVM_SAVE_CODE_HEADER: 'HVM_SAVE_CODE(HEADER)',
  HVM_SAVE_CODE_CPU: 'HVM_SAVE_CODE(CPU)',
};

t.test('layouts and numbers', { skip }, (t) => {
  const structs: Record<string, Readonly<Record<string, number>>> = { ...XEN_STRUCT, ...XENCTRL['4.17'] };
  const wanted: string[] = [];
  const lines: string[] = [];
  const add = (label: string, expression: string, value: number): void => {
    wanted.push(`${label} ${value}`);
    lines.push(`printf("${label} %llu\\n", (unsigned long long)(${expression}));`);
  };
  for (const [name, fields] of Object.entries(structs))
    for (const [field, value] of Object.entries(fields)) {
      if (BIT_FIELDS.has(`${name}.${field}`)) continue;
      if (field === 'size') add(`${name} size`, `sizeof(${typeOf(name)})`, value);
      else add(`${name}.${field}`, `offsetof(${typeOf(name)}, ${field.replace(/_$/, '')})`, value);
    }
  for (const [name, value] of Object.entries({ ...XEN_IOCTL, ...XEN_CONST })) add(name, `(uint32_t)(${COMPUTED[name] ?? name})`, value);
  const folder = mkdtempSync(join(tmpdir(), 'mpt-abi-'));
  try {
    const source = join(folder, 'abi.c');
    writeFileSync(
      source,
      `#define __XEN_TOOLS__ 1\n${HEADERS.map((header) => `#include <${header}>`).join('\n')}\nint main(void) {\n${lines.join('\n')}\nreturn 0; }\n`,
    );
    const compiled = spawnSync('gcc', ['-w', `-I${include}`, '-o', join(folder, 'abi'), source], { encoding: 'utf8' });
    t.equal(compiled.status, 0, compiled.stderr);
    t.same(spawnSync(join(folder, 'abi'), { encoding: 'utf8' }).stdout.trim().split('\n'), wanted);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  t.end();
});
