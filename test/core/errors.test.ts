/** Addresses, errors and the nearest-name search: plain values. */
import t from 'tap';
import { bdf, Gfn, Gpa, gfnToGpa, gpaToGfn, hex, PAGE_SIZE, pageOffset } from '../../src/core/addresses.js';
import { ERROR_CODES, type ErrorCode, errnoText, MptError } from '../../src/core/errors.js';
import { nearestName } from '../../src/core/nearest-name.js';
import { Random } from './random.js';

t.test('frames and bytes convert exactly up to 2^52', async (t) => {
  const cases: readonly [gpa: number, gfn: number, offset: number][] = [
    [0, 0, 0],
    [0xfff, 0, 0xfff],
    [0x1000, 1, 0],
    [0x7fff_ffff, 0x7_ffff, 0xfff],
    [0x8000_0000, 0x8_0000, 0],
    [0xffff_f001, 0xf_ffff, 1],
    [0x1_0000_0000, 0x10_0000, 0],
    [2 ** 52 - 1, 2 ** 40 - 1, 0xfff],
  ];
  for (const [gpa, gfn, offset] of cases) {
    t.equal(gpaToGfn(Gpa(gpa)), gfn, `gfn of ${hex(gpa)}`);
    t.equal(pageOffset(gpa), offset, `offset of ${hex(gpa)}`);
    t.equal(gfnToGpa(Gfn(gfn)), gpa - offset, `gpa of ${gfn}`);
  }
  const random = new Random(52);
  for (let i = 0; i < 2000; i++) {
    const gpa = (random.word() & 0xf_ffff) * 2 ** 32 + random.word();
    const again = gfnToGpa(gpaToGfn(Gpa(gpa))) + pageOffset(gpa);
    if (again !== gpa) t.fail(`${hex(gpa)} came back as ${hex(again)}`);
  }
  t.equal(PAGE_SIZE, 4096);
  t.equal(bdf(0, 2, 0), 0x10);
  t.equal(bdf(0xff, 0x1f, 7), 0xffff);
  t.equal(hex(0x1_f000), '0x1f000');
  t.equal(hex(2 ** 51), '0x8000000000000');
  t.equal(hex(-16), '-0x10');
});

t.test('a message names what, where, the limit and the cure', async (t) => {
  const error = new MptError('NOT_RAM', 'the range runs into a hole', {
    backend: 'kvm',
    op: 'read_gpa',
    address: 0x1000,
    size: 16,
    limit: 4096,
    errno: 14,
    hint: 'use less',
  });
  t.equal(error.message, '[kvm] read_gpa: the range runs into a hole (at 0x1000, size 16, limit 4096); errno 14 EFAULT; use less');
  t.equal(error.name, 'MptError');
  t.equal(error.text, 'the range runs into a hole');
  t.equal(new MptError('LIMIT', 'full').message, 'full');
  t.equal(new MptError('LIMIT', 'full', { limit: 0 }).message, 'full (limit 0)');
  t.equal(new MptError('LIMIT', 'full', { address: 0 }).message, 'full (at 0x0)');
  t.equal(errnoText(16), '16 EBUSY');
  t.equal(errnoText(4000), '4000');
  t.ok(MptError.is(error) && MptError.is(error, 'NOT_RAM'));
  t.notOk(MptError.is(error, 'LIMIT') || MptError.is(new Error('x')) || MptError.is(undefined));
});

t.test('a message is one line whatever was put into it', async (t) => {
  const error = new MptError('IO', 'first\nsecond\r\nthird', { op: 'a\nb', hint: 'c\nd' });
  t.notMatch(error.message, /[\r\n]/);
  t.match(error.message, /first.*second.*third/);
});

t.test('the cause is kept and stays out of the message', async (t) => {
  const cause = new Error('inner');
  const error = new MptError('INTERNAL', 'outer', { cause });
  t.equal(error.cause, cause);
  t.notMatch(error.message, /inner/);
  t.notOk('cause' in new MptError('INTERNAL', 'outer'), 'no empty cause');
});

t.test('an error crosses a thread as plain fields', async (t) => {
  for (const code of Object.keys(ERROR_CODES) as ErrorCode[]) {
    const error = new MptError(code, 'a sentence', { backend: 'sim', op: 'x', errno: 5, address: 0, size: 1, limit: 2, hint: 'h' });
    const copy = MptError.fromJSON(structuredClone(error.toJSON()));
    t.ok(copy instanceof MptError);
    t.same(copy.toJSON(), error.toJSON(), code);
    t.same(MptError.fromJSON(JSON.parse(JSON.stringify(error))).toJSON(), error.toJSON(), `${code} as text`);
  }
  const bare = MptError.fromJSON(JSON.parse(JSON.stringify(new MptError('STOPPED', 'stopped'))));
  t.equal(bare.message, 'stopped');
  t.equal(bare.backend, undefined);
});

t.test('the nearest name is offered for a mistyped one only', async (t) => {
  const names = ['kvm', 'xen', 'acrn', 'sim', 'vfio-user'];
  t.equal(nearestName('kvn', names), 'kvm');
  t.equal(nearestName('siim', names), 'sim');
  t.equal(nearestName('KVM', names), 'kvm');
  t.equal(nearestName('vfio-usr', names), 'vfio-user');
  t.equal(nearestName('hyper-v', names), undefined);
  t.equal(nearestName('', names), undefined);
  t.equal(nearestName('k'.repeat(100_000), names), undefined, 'bounded');
});
