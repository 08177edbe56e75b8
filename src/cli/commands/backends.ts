/** `mpt backends`: what is there, or why not. */
import { BACKENDS, selectBackend } from '../../backends/index.js';
import { type Capability, has } from '../../core/capabilities.js';
import { MptError } from '../../core/errors.js';
import { EXIT } from '../exit-codes.js';
import { print, printJson } from '../terminal.js';

/** What `auto` would take here, and why. */
function autoChoice(): { readonly backend: string | null; readonly reason: string } {
  try {
    const { backend, reason } = selectBackend({ prefer: 'auto' });
    return { backend: backend.name, reason };
  } catch (error) {
    if (!MptError.is(error, 'UNAVAILABLE')) throw error;
    return { backend: null, reason: `no hypervisor can be used here; ${error.hint}` };
  }
}

export function backendsCommand(options: { json?: boolean }): number {
  const rows = BACKENDS.map((backend) => ({
    name: backend.name,
    kind: backend.kind,
    description: backend.description,
    ...backend.probe(),
  }));
  const auto = autoChoice();
  if (options.json === true) {
    printJson({ auto, backends: rows.map(({ capabilities = null, version = null, ...row }) => ({ ...row, version, capabilities })) });
    return EXIT.OK;
  }
  for (const row of rows) {
    print(`${row.name.padEnd(10)} ${row.available ? 'available' : 'unavailable'}  ${row.version ?? ''}`.trimEnd());
    print(`           ${row.description}`);
    print(`           ${row.reason}`);
    if (row.capabilities === undefined) continue;
    const { capabilities } = row;
    const names = Object.keys(capabilities) as Capability[];
    const shown = (name: Capability): string => (typeof capabilities[name] === 'string' ? `${name}=${capabilities[name]}` : name);
    print(
      `           has: ${names
        .filter((name) => has(capabilities, name))
        .map(shown)
        .join(' ')}`,
    );
    const absent = names.filter((name) => !has(capabilities, name));
    if (absent.length > 0) print(`           has not: ${absent.join(' ')}`);
  }
  print(`auto       ${auto.backend === null ? 'takes nothing' : `takes ${auto.backend}`}: ${auto.reason}`);
  return EXIT.OK;
}
