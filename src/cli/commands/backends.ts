/** `mpt backends`: what is there, or why not. */
import { BACKENDS } from '../../backends/index.js';
import { type Capability, has } from '../../core/capabilities.js';
import { EXIT } from '../exit-codes.js';
import { print, printJson } from '../terminal.js';

export function backendsCommand(options: { json?: boolean }): number {
  const rows = BACKENDS.map((backend) => ({
    name: backend.name,
    kind: backend.kind,
    description: backend.description,
    ...backend.probe(),
  }));
  if (options.json === true) {
    printJson({ backends: rows.map(({ capabilities = null, version = null, ...row }) => ({ ...row, version, capabilities })) });
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
  return EXIT.OK;
}
