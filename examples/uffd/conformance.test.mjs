/** uffd: the suite. `node --test` runs it; a red case says what was expected, with addresses, and states its rule. */
import test from 'node:test';
import { nodeTestSuite } from 'mediated-passthrough/conformance';
import { uffd } from './index.mjs';

nodeTestSuite(test, { name: uffd.name, open: (options) => uffd.open(options) });
