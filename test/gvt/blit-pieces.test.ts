/** Fills and copies of rows that lie one behind the other, over pages that follow one another in memory and pages that do not. */
import t from 'tap';
import { makeJob, type Origin, type Target } from '../../src/core/gvt/engine/blit-job.js';
import { isDone, runBlit } from '../../src/core/gvt/engine/blit-rows.js';
import { ROP } from '../../src/core/gvt/engine/rop.js';
import { Tiling } from '../../src/core/gvt/engine/surface.js';
import { fixture, random } from './memory-backend.js';

const PAGE = 4096;
const PAGES = 64;

t.test('as on one flat memory, in slices of any size', async (t) => {
  const next = random(0xb117);
  const f = fixture();
  const base = f.vgpu.resources.aperture.start;
  // Runs of one to five frames, each somewhere else.
  const frames: number[] = [];
  for (let start = 900; frames.length < PAGES; start -= 11) for (let i = 0; i <= next() % 5; i++) frames.push(start + i);
  frames.slice(0, PAGES).forEach((gfn, page) => {
    f.map(base + page * PAGE, gfn);
  });
  const { words } = f.backend;
  const bytes = new Uint8Array(words.buffer, words.byteOffset);
  const flat = new Uint8Array(PAGES * PAGE);
  const seen = (): Uint8Array => {
    const all = new Uint8Array(PAGES * PAGE);
    for (let page = 0; page < PAGES; page++)
      all.set(bytes.subarray((frames[page] as number) * PAGE, ((frames[page] as number) + 1) * PAGE), page * PAGE);
    return all;
  };
  let pieces = 0;
  for (let i = 0; i < 400; i++) {
    for (let j = 0; j < 16; j++) {
      const at = next() % flat.length;
      flat[at] = next();
      bytes[(frames[Math.floor(at / PAGE)] as number) * PAGE + (at % PAGE)] = flat[at] as number;
    }
    const width = 1 + (next() % 700);
    const height = 1 + (next() % 40);
    const rowBytes = width * 4;
    // Mostly a pitch that leaves nothing between rows.
    const pitch = () => rowBytes + (next() % 3 === 0 ? (next() % 20) * 4 : 0);
    const target: Target = { x1: 0, y1: 0, x2: width, y2: height, base: 0, pitch: pitch(), tiling: Tiling.LINEAR };
    const span = (height - 1) * target.pitch + rowBytes;
    const to = (next() % Math.max(1, (flat.length - span) / 4)) * 4;
    if (to + span > flat.length) continue;
    const fills = next() % 2 === 0;
    const fromPitch = pitch();
    const fromSpan = (height - 1) * fromPitch + rowBytes;
    const from = next() % Math.max(1, flat.length - fromSpan);
    if (from + fromSpan > flat.length) continue;
    // What overlaps with another pitch means nothing in hardware either.
    if (!fills && fromPitch !== target.pitch && Math.abs(from - to) < Math.max(span, fromSpan)) continue;
    const color = next();
    const origin: Origin = { x: 0, y: 0, base: base + from, pitch: fromPitch, tiling: Tiling.LINEAR };
    const operation = { rop: fills ? ROP.PATCOPY : ROP.SRCCOPY, color, depth: 4, mask: 0xffff_ffff };
    const job = makeJob({ ...target, base: base + to }, fills ? undefined : origin, operation);
    if (typeof job === 'string') throw new Error(job);
    let used = 0;
    while (!isDone(job)) {
      const budget = 1 + (next() % 30);
      const spent = runBlit(job, f.vgpu.ggtt, budget);
      if (spent < 0) t.fail('a page is missing');
      if (spent > budget + Math.ceil(rowBytes / 1024)) t.fail(`${spent} units of ${budget}`);
      used += spent;
    }
    if (used !== height * Math.max(1, Math.ceil(rowBytes / 1024))) t.fail(`${used} units for ${height} rows of ${rowBytes} bytes`);
    const old = flat.slice();
    for (let row = 0; row < height; row++)
      for (let byte = 0; byte < rowBytes; byte++)
        flat[to + row * target.pitch + byte] = fills ? color >>> ((byte & 3) * 8) : (old[from + row * fromPitch + byte] as number);
    if (Buffer.compare(seen(), flat) !== 0) t.fail(`blit ${i} is wrong: ${JSON.stringify({ to, from, target, fromPitch, fills })}`);
    if (target.pitch === rowBytes) pieces++;
  }
  t.ok(pieces > 100, `${pieces} blits in one piece`);
});

t.test('a page that is missing ends it, and what lies before is done', async (t) => {
  const f = fixture();
  const base = f.vgpu.resources.aperture.start;
  f.map(base, 100, 2);
  const target: Target = { x1: 0, y1: 0, x2: 1024, y2: 3, base, pitch: PAGE, tiling: Tiling.LINEAR };
  const job = makeJob(target, undefined, { rop: ROP.PATCOPY, color: 7, depth: 4, mask: 0xffff_ffff });
  if (typeof job === 'string') throw new Error(job);
  t.equal(runBlit(job, f.vgpu.ggtt, 1000), -1);
  t.strictSame(
    [100, 101].map((gfn) => f.backend.words.subarray(gfn * 1024, (gfn + 1) * 1024).every((word) => word === 7)),
    [true, true],
  );
});
