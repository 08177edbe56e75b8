/**
 * The import directions of docs/architecture.md hold because the linter enforces them: each forbidden import, put into
 * a copy of the tree's shape with the project's own biome.json, is reported; each allowed one is not.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const BIOME = join(ROOT, 'node_modules/.bin/biome');

/** What a file of each folder may import and what it may not, at each depth that the folder has. */
const DIRECTIONS: readonly { file: string; allowed: readonly string[]; forbidden: readonly string[] }[] = [
  {
    file: 'src/index.ts',
    allowed: ['./core/mpt.js', './backends/index.js', './guest/agent.js', './native/thread.js'],
    forbidden: ['./cli/mpt.js', 'koffi', 'node:fs'],
  },
  {
    file: 'src/core/x.ts',
    allowed: ['./errors.js', './gvt/gvt.js', 'eventemitter3'],
    forbidden: [
      '../native/fd.js',
      '../backends/index.js',
      '../guest/agent.js',
      '../cli/mpt.js',
      '../index.js',
      'koffi',
      'node:fs',
      'fs',
      'ajv',
    ],
  },
  {
    file: 'src/core/gvt/x.ts',
    allowed: ['../errors.js', './mmio.js', './engine/commands.js', '../bus/registry.js', 'eventemitter3'],
    forbidden: ['../../native/fd.js', '../../backends/sim/index.js', '../../index.js', 'koffi', 'node:worker_threads'],
  },
  {
    file: 'src/core/samples/x.ts',
    allowed: ['../device-memory.js', '../vfio/device.js', './dispi.js'],
    forbidden: ['../../native/device-memory.js', '../../backends/index.js', 'koffi', 'node:fs'],
  },
  {
    file: 'src/core/gvt/engine/x.ts',
    allowed: ['../../errors.js', '../roles.js', './commands.js'],
    forbidden: ['../../../native/fd.js', '../../../guest/agent.js', 'koffi', 'node:buffer'],
  },
  {
    file: 'src/native/x.ts',
    allowed: [
      './syscalls.js',
      '../core/errors.js',
      '../core/addresses.js',
      '../core/machine.js',
      '../core/device-memory.js',
      'koffi',
      'node:fs',
      'node:path',
    ],
    forbidden: ['../core/mpt.js', '../core/mpt-backend.js', '../backends/kvm/abi.js', 'eventemitter3', 'node:net'],
  },
  {
    file: 'src/backends/x.ts',
    allowed: ['./kvm/index.js', '../core/errors.js'],
    forbidden: ['../native/libc.js', '../cli/config.js', 'koffi', 'node:fs'],
  },
  {
    file: 'src/backends/kvm/x.ts',
    allowed: [
      './abi.js',
      '../module.js',
      '../../core/mpt.js',
      '../../native/fd.js',
      '../../pc/bus.js',
      '../../vfio/server.js',
      'eventemitter3',
    ],
    forbidden: ['../sim/index.js', '../index.js', '../../guest/agent.js', '../../conformance/index.js', 'koffi', 'node:fs'],
  },
  {
    file: 'src/backends/sim/parts/x.ts',
    allowed: ['./decode.js', '../machine.js', '../../module.js', '../../../core/mpt.js', '../../../native/fd.js'],
    forbidden: ['../../kvm/abi.js', '../../../guest/agent.js', '../../../jobs/run.js', 'koffi'],
  },
  {
    file: 'src/pc/x.ts',
    allowed: ['./cpu/cpu.js', './bus.js', '../core/io-request.js'],
    forbidden: ['../native/fd.js', '../backends/sim/abi.js', '../guest/agent.js', 'koffi', 'node:fs'],
  },
  {
    file: 'src/pc/cpu/x.ts',
    allowed: ['./alu.js', '../bus.js', '../../core/errors.js'],
    forbidden: ['../../native/fd.js', '../../backends/sim/abi.js', 'koffi'],
  },
  {
    file: 'src/vfio/x.ts',
    allowed: ['./protocol.js', '../core/vfio/device.js', '../native/fd.js', 'node:fs'],
    forbidden: ['../backends/kvm/abi.js', '../pc/bus.js', '../guest/agent.js', 'koffi', 'node:net'],
  },
  {
    file: 'src/recording/x.ts',
    allowed: ['./events.js', '../core/gvt/gvt.js', '../core/errors.js', 'node:fs', 'node:zlib'],
    forbidden: ['../native/fd.js', '../backends/index.js', '../vfio/server.js', '../jobs/run.js', 'koffi', 'node:net'],
  },
  {
    file: 'src/sysfs/x.ts',
    allowed: ['./node.js', '../core/bus/index.js', '../native/mount.js', 'node:fs', 'node:fs/promises', 'node:path'],
    forbidden: ['../vfio/index.js', '../backends/index.js', '../cli/daemon/daemon.js', 'koffi', 'node:net', 'node:crypto'],
  },
  {
    file: 'src/guest/x.ts',
    allowed: ['./agent.js', './agent/protocol.js', '../core/machine.js'],
    forbidden: ['../native/fd.js', '../backends/index.js', '../conformance/index.js', 'koffi', 'node:fs'],
  },
  {
    file: 'src/guest/agent/x.ts',
    allowed: ['./protocol.js', '../agent-image.js', '../../core/addresses.js'],
    forbidden: ['../../native/fd.js', '../../conformance/index.js', 'koffi'],
  },
  {
    file: 'src/conformance/x.ts',
    allowed: ['./case.js', './cases/msi.js', '../core/mpt.js', '../guest/agent.js'],
    forbidden: ['../native/fd.js', '../backends/kvm/index.js', '../jobs/run.js', 'koffi', 'tap', 'node:test'],
  },
  {
    file: 'src/conformance/cases/x.ts',
    allowed: ['./msi.js', '../case.js', '../../core/mpt.js', '../../guest/agent.js'],
    forbidden: ['../../native/fd.js', '../../backends/sim/index.js', 'koffi', 'tap', 'node:fs'],
  },
  {
    file: 'src/device-thread/x.ts',
    allowed: ['./protocol.js', '../core/errors.js', '../native/thread.js', 'eventemitter3', 'node:worker_threads'],
    forbidden: ['../backends/index.js', '../jobs/run.js', 'koffi', 'node:fs'],
  },
  {
    file: 'src/jobs/x.ts',
    allowed: [
      '../core/errors.js',
      '../backends/index.js',
      '../guest/agent.js',
      '../conformance/index.js',
      '../vfio/server.js',
      '../recording/index.js',
      '../device-thread/protocol.js',
    ],
    forbidden: ['../native/fd.js', '../cli/config.js', '../device-thread/device-thread.js', 'koffi', 'node:fs'],
  },
  {
    file: 'src/cli/commands/x.ts',
    allowed: [
      '../config.js',
      '../../backends/index.js',
      '../../jobs/run.js',
      '../display/feed.js',
      'node:fs',
      'commander',
      'eventemitter3',
      'ws',
    ],
    forbidden: ['koffi', 'tap', '../../../test/cli/mpt.js', '../../../bench/main.js'],
  },
  {
    file: 'src/newfolder/x.ts',
    allowed: ['./y.js'],
    forbidden: ['../core/errors.js', '../native/fd.js', 'koffi', 'node:fs'],
  },
];

/** The ways in which a module can be named. */
const FORMS: readonly ((specifier: string) => string)[] = [
  (s) => `import { a } from '${s}';`,
  (s) => `import type { A } from '${s}';`,
  (s) => `import '${s}';`,
  (s) => `export * from '${s}';`,
  (s) => `export const b = await import('${s}');`,
];

interface Diagnostic {
  readonly category: string;
  readonly location: { readonly path: string; readonly start: { readonly line: number } };
}

/** Lints the files in a folder of their own under the project's configuration. @returns `path:line` of refused imports */
function refused(files: ReadonlyMap<string, readonly string[]>): Set<string> {
  const folder = mkdtempSync(join(tmpdir(), 'mpt-lint-'));
  try {
    for (const name of ['biome.json', '.gitignore']) copyFileSync(join(ROOT, name), join(folder, name));
    for (const [file, lines] of files) {
      mkdirSync(dirname(join(folder, file)), { recursive: true });
      writeFileSync(join(folder, file), `${lines.join('\n')}\n`);
    }
    const run = spawnSync(BIOME, ['lint', '--reporter=json', '--max-diagnostics=none', '--only=style/noRestrictedImports', 'src'], {
      cwd: folder,
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    });
    if (run.error !== undefined) throw run.error;
    const { diagnostics } = JSON.parse(run.stdout) as { diagnostics: readonly Diagnostic[] };
    return new Set(
      diagnostics
        .filter(({ category }) => category === 'lint/style/noRestrictedImports')
        .map(({ location }) => `${location.path}:${location.start.line}`),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

t.test('each forbidden import is refused and each allowed one is not', (t) => {
  const files = new Map<string, string[]>();
  for (const { file, allowed, forbidden } of DIRECTIONS)
    files.set(
      file,
      [...allowed, ...forbidden].flatMap((specifier) => FORMS.map((form) => form(specifier))),
    );
  const found = refused(files);
  for (const { file, allowed, forbidden } of DIRECTIONS) {
    const wrong: string[] = [];
    const lines = files.get(file) ?? [];
    for (const [index, line] of lines.entries()) {
      const expected = index >= allowed.length * FORMS.length;
      if (found.has(`${file}:${index + 1}`) !== expected) wrong.push(`${expected ? 'accepted' : 'refused'}: ${line}`);
    }
    t.same(wrong, [], `${file}: ${allowed.length} allowed, ${forbidden.length} forbidden`);
  }
  t.end();
});

t.test('every folder of src has its rule', (t) => {
  const ruled = new Set(DIRECTIONS.map(({ file }) => file.split('/')[1]));
  for (const entry of readdirSync(join(ROOT, 'src'), { withFileTypes: true }))
    if (entry.isDirectory()) t.ok(ruled.has(entry.name), `src/${entry.name}`);
  t.end();
});

t.test('the cli folder reaches down, never out of src', (t) => {
  const found = refused(new Map([['src/cli/x.ts', ["import '../index.js';", "import '../../test/x.js';", "import 'koffi';"]]]));
  t.same([...found].sort(), ['src/cli/x.ts:2', 'src/cli/x.ts:3']);
  t.end();
});
