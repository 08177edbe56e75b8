/** A page in the browser: what its canvas holds, what it was sent, what it complained of. */
import type { Picture } from '../../src/core/vfio/device.js';
import type { Browser, Event, Params } from './devtools.js';

/** What page.mjs tells of itself. */
export interface Status {
  readonly state: string;
  readonly pictures: number;
  readonly updates: number;
  readonly rowsDrawn: number;
  readonly lastRanges: readonly (readonly [number, number])[];
}

const WAIT_LIMIT_MS = 30_000;
/** RFC 6455, 5.2. */
const BINARY = 2;

export class Page {
  /** Bytes of each WebSocket message that came, in order. */
  readonly messages: number[] = [];
  /** Errors and warnings of the console, exceptions, violations of the security policy. */
  readonly complaints: string[] = [];
  readonly #browser: Browser;
  readonly #session: string;

  private constructor(browser: Browser, session: string) {
    this.#browser = browser;
    this.#session = session;
    const earlier = browser.onEvent;
    browser.onEvent = (event) => {
      earlier(event);
      if (event.sessionId === session) this.#event(event);
    };
  }

  /** Opens a page of its own. */
  static async open(browser: Browser, url: string): Promise<Page> {
    const { targetId } = await browser.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await browser.send('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(browser, sessionId as string);
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await page.#send(`${domain}.enable`);
    await page.#send('Page.navigate', { url });
    return page;
  }

  /** Value of an expression, or of the promise that it gives. @throws Error when it throws */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.#send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails !== undefined) {
      const { text, exception } = exceptionDetails as { text: string; exception?: { description?: string } };
      throw new Error(exception?.description ?? text);
    }
    return (result as { value: T }).value;
  }

  /** Waits until an expression is true. @throws Error after 30 s, with what the page tells of itself */
  async until(condition: string): Promise<void> {
    const end = performance.now() + WAIT_LIMIT_MS;
    // A page that is being loaded may lose its context between two looks.
    while (!(await this.evaluate<boolean>(`Boolean(globalThis.mptDisplay && (${condition}))`).catch(() => false))) {
      if (performance.now() > end)
        throw new Error(
          `'${condition}' was not so within ${WAIT_LIMIT_MS / 1000} s: ${await this.evaluate('JSON.stringify(globalThis.mptDisplay)')}`,
        );
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  status(): Promise<Status> {
    return this.evaluate('mptDisplay');
  }

  /** The text under the canvas. */
  text(): Promise<string> {
    return this.evaluate("document.querySelector('#status').textContent");
  }

  /** The canvas, as getImageData reads it back. */
  async canvas(): Promise<Picture> {
    const { width, height, pixels } = await this.evaluate<{ width: number; height: number; pixels: string }>(`(() => {
      const { width, height } = document.querySelector('canvas');
      const bytes = document.querySelector('canvas').getContext('2d').getImageData(0, 0, width, height).data;
      let text = '';
      for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
      return { width, height, pixels: btoa(text) };
    })()`);
    return { width, height, rgba: Buffer.from(pixels, 'base64') };
  }

  #send(method: string, params: Params = {}): Promise<Params> {
    return this.#browser.send(method, params, this.#session);
  }

  #event({ method, params }: Event): void {
    if (method === 'Network.webSocketFrameReceived') {
      const { opcode, payloadData } = params['response'] as { opcode: number; payloadData: string };
      this.messages.push(opcode === BINARY ? Buffer.from(payloadData, 'base64').length : payloadData.length);
    } else if (method === 'Runtime.exceptionThrown') this.complaints.push((params['exceptionDetails'] as { text: string }).text);
    else if (method === 'Log.entryAdded') {
      const { level, text } = params['entry'] as { level: string; text: string };
      if (level === 'error' || level === 'warning') this.complaints.push(text);
    }
  }
}
