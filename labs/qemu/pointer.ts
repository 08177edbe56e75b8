/** A tablet of the guest's, which the lab moves over QEMU's machine protocol (QMP). */
import { existsSync, mkdtempSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { temporary } from '../common/children.js';
import { byLine } from '../common/lines.js';

/** Modules that drive it. */
export const POINTER_MODULES = ['virtio_pci', 'virtio_input', 'evdev'] as const;

/** Values that QEMU's absolute axes have, from 0 on. */
const AXIS_VALUES = 0x8000;
const READY_LIMIT_MS = 10_000;

interface Reply {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

export class Pointer {
  /** The path of a socket may have 107 bytes: that of the output folder can be longer. */
  readonly #path = join(temporary(mkdtempSync(join(tmpdir(), 'mpt-lab-'))), 'qmp.sock');
  #socket: Socket | undefined;
  #answered: ((reply: Reply) => void) | undefined;
  #gone: ((error: Error) => void) | undefined;

  /** QEMU's arguments. */
  get machine(): readonly string[] {
    return ['-device', 'virtio-tablet-pci', '-qmp', `unix:${this.#path},server=on,wait=off`];
  }

  /** Moves it to a pixel of a screen of this size. @throws Error with what QEMU says */
  async moveTo(x: number, y: number, { width, height }: { readonly width: number; readonly height: number }): Promise<void> {
    await this.#connect();
    // The middle of the pixel.
    const axis = (name: string, at: number, size: number): object => ({
      type: 'abs',
      data: { axis: name, value: Math.floor(((at + 0.5) * AXIS_VALUES) / size) },
    });
    await this.#execute('input-send-event', { events: [axis('x', x, width), axis('y', y, height)] });
  }

  close(): void {
    this.#socket?.destroy();
  }

  async #connect(): Promise<void> {
    if (this.#socket !== undefined) return;
    const end = performance.now() + READY_LIMIT_MS;
    while (!existsSync(this.#path)) {
      if (performance.now() > end) throw new Error(`QEMU made no QMP socket within ${READY_LIMIT_MS / 1000} s`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const socket = connect(this.#path);
    this.#socket = socket;
    const fail = (error: Error): void => this.#gone?.(new Error(`QMP: ${error.message}`));
    socket.on('error', fail);
    socket.on('close', () => fail(new Error('QEMU hung up')));
    // The greeting and events are no replies.
    const take = byLine((line) => {
      const reply = JSON.parse(line) as Reply;
      if ('return' in reply || 'error' in reply) this.#answered?.(reply);
    });
    socket.on('data', (bytes: Buffer) => take(bytes));
    await this.#execute('qmp_capabilities');
  }

  async #execute(command: string, args: object = {}): Promise<void> {
    const reply = await new Promise<Reply>((resolve, reject) => {
      this.#answered = resolve;
      this.#gone = reject;
      this.#socket?.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    });
    if (reply.error !== undefined) throw new Error(`QMP: ${command}: ${reply.error.desc}`);
  }
}
