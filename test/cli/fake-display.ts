/** A display whose picture a test changes, and a clock-free way to wait for what others see of it. */
import type { PictureSource } from '../../src/cli/display/socket-server.js';
import type { Picture } from '../../src/core/vfio/device.js';
import type { MonitorChange } from '../../src/core/vfio/edid-user.js';

export class FakeDisplay implements PictureSource {
  #picture: Picture | undefined;
  /** How often it was asked. */
  calls = 0;
  /** Asking fails with this. */
  failure: Error | undefined;
  /** Asking waits for this. */
  gate: Promise<void> = Promise.resolve();

  /** A picture of this size whose pixels all differ from their neighbours. */
  show(width: number, height: number): Picture {
    const rgba = new Uint8Array(width * height * 4);
    for (let i = 0; i < width * height; i++) rgba.set([i & 0xff, (i >>> 8) & 0xff, (i * 7) & 0xff, 255], i * 4);
    this.#picture = { width, height, rgba };
    return this.#picture;
  }

  off(): void {
    this.#picture = undefined;
  }

  /** Rows of the present picture in one colour. The picture that was given before stays as it was. */
  paint(rows: readonly number[], [red, green, blue]: readonly [number, number, number]): Picture {
    const { width, height, rgba: old } = this.#picture as Picture;
    const rgba = old.slice();
    const pixels = new Uint32Array(rgba.buffer);
    const pixel = 0xff00_0000 + (blue << 16) + (green << 8) + red;
    for (const row of rows) pixels.fill(pixel, row * width, (row + 1) * width);
    this.#picture = { width, height, rgba };
    return this.#picture;
  }

  get now(): Picture | undefined {
    return this.#picture;
  }

  /** What its monitor was told. */
  readonly changes: MonitorChange[] = [];

  async changeMonitor(change: MonitorChange): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    this.changes.push(change);
  }

  async picture(): Promise<Picture | undefined> {
    this.calls++;
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
    return this.#picture;
  }
}

/** Looks again at each turn of the event loop until it is true; the test's own limit ends what never becomes true. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}
