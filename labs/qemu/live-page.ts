/** The live page of a device, `mpt display --listen`, in a real browser: headless Chromium, which lab:display drives too. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { temporary } from '../common/children.js';
import { chromium } from '../display/chromium.js';
import { Browser } from '../display/devtools.js';
import { Page } from '../display/page.js';
import { ViewerProcess } from '../display/viewer-process.js';
import { mustShow, type Picture, pictureOfRgba, pixelAt } from './picture.js';

const SHOWS_LIMIT_S = 60;

export class LivePage {
  readonly #viewer: ViewerProcess;
  readonly #browser: Browser;
  readonly #page: Page;

  private constructor(viewer: ViewerProcess, browser: Browser, page: Page) {
    this.#viewer = viewer;
    this.#browser = browser;
    this.#page = page;
  }

  /** @param socket of the device's server. @throws LabError SKIPPED when Debian cannot be reached; Error when no picture comes */
  static async open(checkout: string, socket: string): Promise<LivePage> {
    const program = await chromium();
    const viewer = await ViewerProcess.start(checkout, socket, 0);
    const browser = new Browser(program, temporary(mkdtempSync(join(tmpdir(), 'mpt-lab-'))));
    const page = await Page.open(browser, viewer.url);
    await page.until("mptDisplay.state === 'on'");
    return new LivePage(viewer, browser, page);
  }

  /** Waits until its canvas has the pixels of `picture`. @throws Error with the first one that has not in the end, or what the page complained of */
  async shows(picture: Picture): Promise<void> {
    const end = performance.now() + SHOWS_LIMIT_S * 1000;
    for (;;) {
      const canvas = pictureOfRgba(await this.#page.canvas());
      try {
        mustShow(canvas, picture, (x, y) => pixelAt(picture, x, y));
        break;
      } catch (error) {
        if (performance.now() > end) throw error;
      }
    }
    const [complaint] = this.#page.complaints;
    if (complaint !== undefined) throw new Error(`the page complained: ${complaint}`);
  }

  close(): Promise<void> {
    this.#browser.close();
    return this.#viewer.stop();
  }
}
