/** set_opregion, set_edid, get_vfio_device and put_vfio_device, broken. */
import { type Mutant, mutantsOf } from '../mutant.js';
import {
  all,
  broken,
  declares,
  handleProperty,
  onHandle,
  type Patch,
  recodeHandle,
  silentBackend,
  silentHandle,
  vagueHandle,
} from '../patch.js';

const undeclared = (capability: string): Patch => all(declares({ [capability]: false }), silentBackend('require', 'UNSUPPORTED'));
const edids = (when: (port: number, edid: Uint8Array) => boolean): Patch =>
  onHandle('setEdid', (original) => (port, edid) => (when(port, edid) ? undefined : original(port, edid)));
const references = (make: (count: number) => number): Patch =>
  handleProperty('vfioReferences', (_, original) => make(original() as number));

const opregion = mutantsOf('set_opregion', [
  [
    'one-page',
    'One page is taken.',
    'opregion/pages-1',
    onHandle('setOpregion', (original) => (pages) => (pages.count === 1 ? undefined : original(pages))),
  ],
  [
    'three-pages',
    'More than two pages are taken.',
    'opregion/pages-3',
    onHandle('setOpregion', (original) => (pages) => (pages.count > 2 ? undefined : original(pages))),
  ],
  [
    'no-pages',
    'No pages are taken.',
    'opregion/no-pages',
    onHandle('setOpregion', (original) => (pages) => (pages.count === 0 ? undefined : original(pages))),
  ],
  ['limit-unnamed', 'The error does not name the limit.', 'opregion/pages-1', vagueHandle('setOpregion', 'INVALID_ARGUMENT', 'limit')],
  ['wrong-code', 'A wrong number of pages answers LIMIT.', 'opregion/pages-3', recodeHandle('setOpregion', 'INVALID_ARGUMENT', 'LIMIT')],
  ['fails', 'Two good pages are refused.', 'opregion/accepted', broken('doSetOpregion', 'HYPERVISOR')],
  ['absent-but-works', 'It works although it is not declared.', 'capability/set-opregion-honest', undeclared('setOpregion')],
  ['silent-when-detached', 'A detached handle accepts it.', 'detach/set-opregion-refused-after', silentHandle('setOpregion', 'DETACHED')],
]);

const edid = mutantsOf('set_edid', [
  ['port-5', 'Port 5 is taken.', 'edid/port-5-refused', edids((port) => port === 5)],
  ['port-negative', 'A negative port is taken.', 'edid/port-negative-refused', edids((port) => port < 0)],
  ['port-fraction', 'A fraction is rounded to a port.', 'edid/port-fraction-refused', edids((port) => port % 1 !== 0)],
  [
    'port-last-refused',
    'The last port is refused.',
    'edid/port-4',
    onHandle('setEdid', (original, handle) => (port, block) => {
      if (port === 4) throw handle.backend.error('INVALID_ARGUMENT', 'no such port', { op: 'set_edid' });
      original(port, block);
    }),
  ],
  ['short', 'A block that is one byte short is taken.', 'edid/length-127-refused', edids((_, block) => block.length === 127)],
  ['two-blocks', 'Two blocks are taken.', 'edid/length-256-refused', edids((_, block) => block.length === 256)],
  [
    'checksum-ignored',
    'The checksum is not looked at.',
    'edid/checksum-refused',
    edids((_, block) => block.length === 128 && block[20] === 1),
  ],
  ['size-unnamed', 'The error does not name the size.', 'edid/length-129-refused', vagueHandle('setEdid', 'INVALID_ARGUMENT', 'size')],
  [
    'changes-source',
    'The block that was given is cleared.',
    'edid/source-may-change',
    onHandle('setEdid', (original) => (port, block) => {
      original(port, block);
      block.fill(0);
    }),
  ],
  [
    'once',
    'A port takes one block only.',
    'edid/port-0',
    onHandle('setEdid', (original, handle) => {
      const ports = new Set<number>();
      return (port, block) => {
        if (ports.has(port)) throw handle.backend.error('BUSY', 'once', { op: 'set_edid' });
        original(port, block);
        ports.add(port);
      };
    }),
  ],
  ['absent-but-works', 'It works although it is not declared.', 'capability/set-edid-honest', undeclared('setEdid')],
]);

const get = mutantsOf('get_vfio_device', [
  ['does-not-count', 'No reference is taken.', 'vfio-device/references-balance', onHandle('getVfioDevice', () => () => undefined)],
  [
    'counts-twice',
    'Two references are taken.',
    'vfio-device/references-balance',
    onHandle('getVfioDevice', (original) => () => {
      original();
      original();
    }),
  ],
  ['one-reference', 'A second reference is not counted.', 'vfio-device/references-balance', references((count) => Math.min(count, 1))],
  [
    'survives-detach',
    'The next attachment inherits the references.',
    'vfio-device/detach-drops-references',
    (backend) => {
      let held = 0;
      all(
        onHandle('getVfioDevice', (original) => () => {
          original();
          held++;
        }),
        references(() => held),
      )(backend);
    },
  ],
  [
    'declared-but-absent',
    'It answers UNSUPPORTED although it is declared.',
    'capability/get-vfio-device-honest',
    onHandle('getVfioDevice', (_original, handle) => () => {
      throw handle.backend.error('UNSUPPORTED', 'not here', { op: 'get_vfio_device' });
    }),
  ],
  [
    'silent-vm-gone',
    'A reference on a destroyed VM’s device is given.',
    'vm-gone/get-vfio-device-refused',
    silentHandle('getVfioDevice', 'VM_GONE'),
  ],
]);

const put = mutantsOf('put_vfio_device', [
  ['extra-silent', 'A put without a reference succeeds.', 'vfio-device/put-without-get', silentHandle('putVfioDevice', 'NOT_MAPPED')],
  ['does-nothing', 'The reference stays.', 'vfio-device/references-balance', onHandle('putVfioDevice', () => () => undefined)],
  [
    'drops-all',
    'One put drops every reference.',
    'vfio-device/references-balance',
    onHandle('putVfioDevice', (original, handle) => () => {
      original();
      while (handle.vfioReferences > 0) original();
    }),
  ],
  [
    'wrong-code',
    'A put without a reference answers BUSY.',
    'vfio-device/put-without-get',
    recodeHandle('putVfioDevice', 'NOT_MAPPED', 'BUSY'),
  ],
  ['absent-but-works', 'It works although it is not declared.', 'capability/put-vfio-device-honest', undeclared('vfioDevice')],
]);

export const OPTIONAL_MUTANTS: readonly Mutant[] = [...opregion, ...edid, ...get, ...put];
