/** scaffold: the suite. `node --test` runs it; a red case says what was expected, with addresses, and states its rule. */
import test from 'node:test';
import { nodeTestSuite } from 'mediated-passthrough/conformance';
import { scaffold } from './index.mjs';

nodeTestSuite(test, { name: scaffold.name, open: (options) => scaffold.open(options) });
