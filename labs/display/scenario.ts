/** What must be so of `mpt display --listen` in a real browser, against a display socket whose picture this process changes. */
import { mkdtempSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { displaySocketPath, encodeFrame } from '../../src/cli/display/protocol.js';
import { serveDisplay } from '../../src/cli/display/socket-server.js';
import { STREAM_PATH } from '../../src/cli/display/web-server.js';
import type { Picture } from '../../src/core/vfio/device.js';
import { FakeDisplay } from '../../test/cli/fake-display.js';
import { temporary } from '../common/children.js';
import type { Point } from '../common/tap.js';
import { DeviceServer } from '../qemu/server.js';
import type { Chromium } from './chromium.js';
import { Browser } from './devtools.js';
import { Page } from './page.js';
import { tell } from './progress.js';
import { ViewerProcess } from './viewer-process.js';

/** A name that another site could have rebound to this machine. */
const REBOUND = 'rebound.example';

/** @throws Error unless both are the same */
function mustEqual(what: string, got: unknown, wanted: unknown): void {
  const [a, b] = [JSON.stringify(got), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${what}: ${a}, not ${b}`);
}

/** @throws Error unless the canvas holds exactly this */
function mustShow({ width, height, rgba }: Picture, wanted: Picture | undefined): void {
  if (wanted === undefined) throw new Error('nothing is shown to compare with');
  mustEqual('the size of the canvas', [width, height], [wanted.width, wanted.height]);
  const wrong = rgba.findIndex((byte, at) => byte !== wanted.rgba[at]);
  if (wrong < 0) return;
  const pixel = Math.floor(wrong / 4);
  const of = (bytes: Uint8Array): string => [...bytes.subarray(pixel * 4, pixel * 4 + 4)].join(' ');
  throw new Error(`pixel ${pixel % width},${Math.floor(pixel / width)} is ${of(rgba)}, not ${of(wanted.rgba)}`);
}

/** What mdpy shows until a guest draws: rows from black at the top to white at the bottom. */
function gradient(width: number, height: number): Picture {
  const rgba = new Uint8Array(width * height * 4);
  const pixels = new Uint32Array(rgba.buffer);
  for (let row = 0; row < height; row++) {
    const level = Math.floor((row * 255) / (height - 1));
    pixels.fill(0xff00_0000 + level * 0x01_0101, row * width, (row + 1) * width);
  }
  return { width, height, rgba };
}

export async function scenario(chromium: Chromium, checkout: string): Promise<Point[]> {
  const points: Point[] = [];
  const check = async (name: string, look: () => Promise<void>): Promise<void> => {
    try {
      await look();
      points.push({ name, status: 'passed' });
    } catch (error) {
      const { message } = error as Error;
      tell(`failed: ${name}: ${message}`);
      points.push({ name: `${name}: ${message}`, status: 'failed' });
    }
  };
  const folder = temporary(mkdtempSync(join(tmpdir(), 'mpt-lab-')));
  const socket = join(folder, 'device.sock');
  const display = new FakeDisplay();
  let server = await serveDisplay(displaySocketPath(socket), display);
  let viewer = await ViewerProcess.start(checkout, socket, 0);
  const browser = new Browser(chromium, join(folder, 'browser'), [`MAP ${REBOUND} 127.0.0.1`]);
  try {
    const page = await Page.open(browser, viewer.url);
    const showsNow = async (from: Page = page): Promise<void> => mustShow(await from.canvas(), display.now);

    await check('a plane that is off is told', async () => {
      await page.until("mptDisplay.state === 'off'");
      mustEqual('the text', await page.text(), 'the plane is off');
    });
    await check('a picture is on the canvas pixel for pixel', async () => {
      display.show(640, 480);
      await page.until("mptDisplay.state === 'on'");
      await showsNow();
      mustEqual('the text', await page.text(), '640 x 480');
    });
    await check('rows that change are drawn, and no others were sent', async () => {
      const before = await page.status();
      const sent = page.messages.length;
      display.paint([0, 7, 8, 9, 300, 479], [200, 100, 50]);
      await page.until(`mptDisplay.updates > ${before.updates}`);
      await showsNow();
      const after = await page.status();
      const ranges = [
        [0, 1],
        [7, 3],
        [300, 1],
        [479, 1],
      ] as const;
      mustEqual('ranges', after.lastRanges, ranges);
      mustEqual('rows drawn', after.rowsDrawn - before.rowsDrawn, 6);
      mustEqual('pictures', after.pictures, before.pictures);
      const header = { type: 'rows', width: 640, height: 480, ranges };
      mustEqual('bytes of the messages', page.messages.slice(sent), [encodeFrame(header).length + 6 * 640 * 4]);
    });
    await check('a picture that stays sends nothing', async () => {
      const sent = page.messages.length;
      const asked = display.calls;
      await page.until('true');
      while (display.calls < asked + 5) await page.status();
      mustEqual('messages', page.messages.length, sent);
    });
    await check('a hundred changes in a row are followed', async () => {
      for (let i = 0; i < 100; i++) {
        display.paint([(i * 37) % 480, (i * 11) % 480], [i, 255 - i, 128]);
        await page.status();
      }
      display.paint([240], [1, 2, 3]);
      await page.until("document.querySelector('canvas').getContext('2d').getImageData(0, 240, 1, 1).data[2] === 3");
      await showsNow();
    });
    await check('another size', async () => {
      display.show(1024, 768);
      await page.until("document.querySelector('canvas').width === 1024");
      await showsNow();
      mustEqual('the text', await page.text(), '1024 x 768');
    });
    await check('a second page shows the same, and both follow', async () => {
      const second = await Page.open(browser, viewer.url);
      await second.until("mptDisplay.state === 'on'");
      await showsNow(second);
      display.paint([5], [9, 8, 7]);
      const red = "document.querySelector('canvas').getContext('2d').getImageData(0, 5, 1, 1).data[0] === 9";
      for (const each of [page, second]) {
        await each.until(red);
        await showsNow(each);
      }
      mustEqual('complaints', second.complaints, []);
    });
    await check('off and on again', async () => {
      display.off();
      await page.until("mptDisplay.state === 'off'");
      display.show(320, 200);
      await page.until("mptDisplay.state === 'on'");
      await showsNow();
    });
    await check('the page complained of nothing', async () => mustEqual('complaints', page.complaints, []));
    await check('a server that goes is told, and taken up again', async () => {
      await server.close();
      await page.until("mptDisplay.state === 'gone'");
      display.show(200, 320);
      server = await serveDisplay(displaySocketPath(socket), display);
      await page.until("mptDisplay.state === 'on'");
      await showsNow();
    });
    await check('mpt display that ends is told, and taken up again on the same port', async () => {
      const { port } = viewer;
      await viewer.stop();
      await page.until("mptDisplay.state === 'lost'");
      display.show(100, 50);
      viewer = await ViewerProcess.start(checkout, socket, port);
      await page.until("mptDisplay.state === 'on'");
      await showsNow();
    });
    await check('a page of another site gets neither page nor stream', async () => {
      const site = createServer((_request, response) => response.end('<!doctype html><title>another site</title>'));
      await new Promise<void>((resolve) => site.listen(0, '127.0.0.1', resolve));
      try {
        const stranger = await Page.open(browser, `http://127.0.0.1:${(site.address() as AddressInfo).port}/`);
        const opens = (url: string): Promise<string> =>
          stranger.evaluate(`new Promise((resolve) => {
            const socket = new WebSocket('${url}');
            socket.onopen = () => resolve('opened');
            socket.onerror = () => resolve('refused');
          })`);
        mustEqual('its WebSocket', await opens(`ws://127.0.0.1:${viewer.port}${STREAM_PATH}`), 'refused');
        mustEqual('its fetch', await stranger.evaluate(`fetch('${viewer.url}').then(() => 'read', () => 'refused')`), 'refused');
        const rebound = await Page.open(browser, `http://${REBOUND}:${viewer.port}/`);
        const text = await rebound.evaluate<string>(`new Promise((resolve) => {
          const look = () => (document.readyState === 'complete' && document.body.textContent ? resolve(document.body.textContent) : setTimeout(look, 10));
          look();
        })`);
        mustEqual('what a rebound name gets', text.trim(), 'this host is not served here');
        mustEqual(
          'and its WebSocket',
          await rebound.evaluate(`new Promise((resolve) => {
          const socket = new WebSocket('ws://${REBOUND}:${viewer.port}${STREAM_PATH}');
          socket.onopen = () => resolve('opened');
          socket.onerror = () => resolve('refused');
        })`),
          'refused',
        );
      } finally {
        site.closeAllConnections();
        site.close();
      }
    });
    await check('mpt display ends with 0 on Ctrl-C while a page looks', () => viewer.stop());
    await check('the picture of a real server, mpt serve --device mdpy', async () => {
      const device = await DeviceServer.start(checkout, { device: 'mdpy', type: 'vga' }, folder);
      viewer = await ViewerProcess.start(checkout, device.socket, 0);
      const real = await Page.open(browser, viewer.url);
      await real.until("mptDisplay.state === 'on'");
      mustShow(await real.canvas(), gradient(640, 480));
      await viewer.stop();
      await device.stop();
    });
  } finally {
    browser.close();
    await server.close();
  }
  return points;
}
