/** The display lab without a browser: usage, skipping, and how it speaks to the browser. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { readTap } from '../../labs/common/tap.js';
import { Browser, type Event } from '../../labs/display/devtools.js';

const LAB = fileURLToPath(new URL('../../labs/display/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'mpt-lab-display-test-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

const env = { ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^_?TAP/.test(name))), MPT_LAB_CACHE: folder };
const lab = (args: readonly string[], more: NodeJS.ProcessEnv = {}) =>
  spawnSync(process.execPath, [LAB, ...args], { encoding: 'utf8', timeout: 60_000, env: { ...env, ...more } });

t.test('wrong usage is one line and exit code 2', async (t) => {
  for (const args of [['--nope'], ['--tap'], ['now']]) {
    const { status, stdout, stderr } = lab(args);
    t.equal(status, 2, args.join(' '));
    t.equal(stdout, '');
    t.match(stderr, /^lab:display: .*\n$/);
  }
  t.equal(lab(['--help']).status, 0);
});

t.test('where Debian has no such package the lab is skipped, with the reason', async (t) => {
  const config = join(folder, 'apt.conf');
  writeFileSync(config, 'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "/dev/null";\n');
  const tap = join(folder, 'skipped.tap');
  const { status, stdout, stderr } = lab(['--tap', tap, '--json'], { APT_CONFIG: config });
  t.equal(status, 77);
  const reason = /^lab:display: skipped: (.*)$/m.exec(stderr)?.[1];
  t.same(readTap(readFileSync(tap, 'utf8')), [{ name: 'lab:display', status: 'skipped', reason }]);
  t.same(JSON.parse(stdout), { rc: 77, verdict: 'skipped', reason });
});

/** A program that answers as a browser does, in pieces. */
function fakeBrowser(script: string): string {
  const program = join(folder, `browser-${script.length}.mjs`);
  const body = `
    import { createReadStream, writeSync } from 'node:fs';
    let rest = '';
    createReadStream('', { fd: 3 }).setEncoding('utf8').on('data', (text) => {
      rest += text;
      for (let end = rest.indexOf('\\0'); end >= 0; end = rest.indexOf('\\0')) {
        const message = JSON.parse(rest.slice(0, end));
        rest = rest.slice(end + 1);
        (${script})(message, (value) => { for (const byte of Buffer.from(JSON.stringify(value) + '\\0')) writeSync(4, Buffer.of(byte)); });
      }
    });`;
  writeFileSync(program, `#!${process.execPath}\n${body}`);
  chmodSync(program, 0o755);
  return program;
}

t.test('commands find their answers, events their listener, in whatever pieces they come', async (t) => {
  const program = fakeBrowser(`({ id, method, params, sessionId }, say) => {
    if (method === 'exit') process.exit(5);
    say({ method: 'Saw.it', params: { name: 'ä' + method }, sessionId });
    say(method === 'fail' ? { id, error: { message: 'no such thing' } } : { id, result: { got: params } });
  }`);
  const browser = new Browser({ program, env: {} }, folder);
  t.teardown(() => browser.close());
  const events: Event[] = [];
  browser.onEvent = (event) => events.push(event);
  const [first, second] = await Promise.all([browser.send('one', { a: 1 }), browser.send('two', { b: 'ü' }, 'page')]);
  t.same([first, second], [{ got: { a: 1 } }, { got: { b: 'ü' } }]);
  t.same(events, [
    { method: 'Saw.it', params: { name: 'äone' } },
    { method: 'Saw.it', params: { name: 'ätwo' }, sessionId: 'page' },
  ]);
  await t.rejects(browser.send('fail'), { message: 'fail: no such thing' });
  await t.rejects(browser.send('exit'), { message: /^exit: Chromium ended with 5/ });
});

t.test('a browser that is not there', async (t) => {
  const browser = new Browser({ program: join(folder, 'none'), env: {} }, folder);
  await t.rejects(browser.send('one'), { message: /^one: Chromium did not start: .*ENOENT/ });
});
