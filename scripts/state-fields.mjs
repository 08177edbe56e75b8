/**
 * Writes the tables of docs/vgpu-state.md from the parts' own fields.
 *
 *   npm run build && node scripts/state-fields.mjs
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const DOCUMENT = fileURLToPath(new URL('../docs/vgpu-state.md', import.meta.url));
const MARK = 'document.test.ts -->\n';
const { describeSections } = await import('../build/test/state/describe.js');

const text = readFileSync(DOCUMENT, 'utf8');
const at = text.indexOf(MARK) + MARK.length;
writeFileSync(DOCUMENT, `${text.slice(0, at)}\n${describeSections()}\n`);
