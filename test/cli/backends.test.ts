/** The registry, the choice between backends, and `mpt backends`. */
import t from 'tap';
import { BACKENDS, type BackendModule, findBackend, selectBackend } from '../../src/backends/index.js';
import { configSchema } from '../../src/cli/config.js';
import { MptError } from '../../src/core/errors.js';
import { mpt } from './mpt.js';

const fake = (name: string, kind: BackendModule['kind'], available: boolean): BackendModule => ({
  name,
  kind,
  description: name,
  optionsSchema: { type: 'object', additionalProperties: false, properties: {} },
  probe: () => ({ available, reason: available ? 'it is there' : 'it is not there' }),
  open: () => {
    throw new MptError('INTERNAL', 'not opened here');
  },
});

const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (MptError.is(error)) return error.code;
    throw error;
  }
  return 'no error';
};

t.test('auto takes the first available hypervisor', (t) => {
  const backends = [fake('a', 'hypervisor', false), fake('b', 'hypervisor', true), fake('c', 'hypervisor', true)];
  t.equal(selectBackend({ prefer: 'auto', backends }).backend.name, 'b');
  t.end();
});

t.test('auto never takes a simulation by itself, and says why nothing fits', (t) => {
  const backends = [fake('a', 'hypervisor', false), fake('b', 'simulation', true)];
  t.throws(() => selectBackend({ prefer: 'auto', backends }), { code: 'UNAVAILABLE', message: /a: it is not there/ });
  const selection = selectBackend({ prefer: 'auto', fallback: 'b', backends });
  t.equal(selection.backend.name, 'b');
  t.match(selection.reason, /fallback, because a: it is not there/);
  t.end();
});

t.test('a named backend fails with its own reason', (t) => {
  const backends = [fake('a', 'hypervisor', false), fake('b', 'hypervisor', true)];
  t.equal(
    codeOf(() => selectBackend({ prefer: 'a', backends })),
    'UNAVAILABLE',
  );
  t.equal(
    codeOf(() => selectBackend({ prefer: 'z', backends })),
    'UNKNOWN_BACKEND',
  );
  t.equal(
    codeOf(() => selectBackend({ prefer: 'a', fallback: 'z', backends })),
    'UNKNOWN_BACKEND',
  );
  t.equal(selectBackend({ prefer: 'a', fallback: 'b', backends }).backend.name, 'b');
  t.end();
});

t.test('the registry', (t) => {
  t.same(new Set(BACKENDS.map(({ name }) => name)).size, BACKENDS.length, 'names are unique');
  for (const { name } of BACKENDS) t.equal(findBackend(name).name, name);
  t.end();
});

t.test('the shipped schema knows every backend and its options', (t) => {
  const schema = configSchema() as {
    properties: { backend: { enum: string[] } };
    allOf: { if: { properties?: { backend: { const?: string } } }; then: { properties: { options: unknown } } }[];
  };
  t.same(schema.properties.backend.enum, ['auto', ...BACKENDS.map(({ name }) => name)]);
  for (const backend of BACKENDS) {
    const rule = schema.allOf.find((candidate) => candidate.if.properties?.backend.const === backend.name);
    t.same(rule?.then.properties.options, backend.optionsSchema, backend.name);
  }
  t.end();
});

t.test('mpt backends', (t) => {
  const { code, stdout, stderr } = mpt('backends', '--json');
  t.equal(code, 0);
  t.equal(stderr, '');
  const { auto, backends } = JSON.parse(stdout);
  t.same(
    backends.map((row: { name: string }) => row.name),
    BACKENDS.map(({ name }) => name),
  );
  for (const row of backends) {
    t.type(row.reason, 'string');
    t.equal(typeof row.available, 'boolean');
    t.equal(row.capabilities === null, !row.available, 'capabilities exactly when available');
  }
  t.equal(
    auto.backend,
    backends.find((row: BackendModule & { available: boolean }) => row.available && row.kind === 'hypervisor')?.name ?? null,
  );
  const text = mpt('backends').stdout;
  t.match(text, /^xen +(un)?available/);
  t.match(text, auto.backend === null ? /\nauto +takes nothing: .*--fallback sim/ : new RegExp(`\\nauto +takes ${auto.backend}: `));
  t.end();
});
