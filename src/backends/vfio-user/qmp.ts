/** QEMU's control socket (QMP: a JSON document a line), without the event loop. */
import { MptError } from '../../core/errors.js';
import { MessageBuffer, MSG, type SocketCalls, unixAddress } from '../../native/sockets.js';
import type { Syscalls } from '../../native/syscalls.js';

const BUFFER = 0x1_0000;

export class Qmp {
  readonly #sys: Syscalls;
  readonly #fd: number;
  readonly #buffer: MessageBuffer;
  #text = '';
  /** Replies that wait to be taken. */
  readonly #replies: Record<string, unknown>[] = [];

  private constructor(sys: Syscalls, sockets: SocketCalls, fd: number) {
    this.#sys = sys;
    this.#fd = fd;
    this.#buffer = new MessageBuffer(sys, sockets, BUFFER, 0);
  }

  /** Connects; undefined while nobody listens yet. */
  static connect(sys: Syscalls, sockets: SocketCalls, path: string): Qmp | undefined {
    const fd = sockets.socket(0);
    if (fd < 0) return undefined;
    if (sockets.connect(fd, unixAddress(path) as Uint8Array) < 0) {
      sys.close(fd);
      return undefined;
    }
    return new Qmp(sys, sockets, fd);
  }

  /**
   * Carries out a command. @param pump called while the answer is awaited: QEMU may be waiting for us meanwhile
   * @throws MptError HYPERVISOR, TIMEOUT
   */
  execute(command: string, args: Record<string, unknown> | undefined, pump: () => void, timeoutMs: number): void {
    this.#send({ execute: command, ...(args === undefined ? {} : { arguments: args }) });
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const reply = this.#reply();
      if (reply !== undefined) {
        const error = reply['error'] as { desc?: string } | undefined;
        if (error === undefined) return;
        throw new MptError('HYPERVISOR', `QEMU refused ${command}: ${error.desc ?? 'no reason given'}`, { op: 'qmp' });
      }
      if (performance.now() > deadline) throw new MptError('TIMEOUT', `QEMU did not answer ${command}`, { op: 'qmp' });
      pump();
    }
  }

  close(): void {
    this.#sys.close(this.#fd);
    this.#buffer.close();
  }

  #send(document: unknown): void {
    const bytes = new TextEncoder().encode(`${JSON.stringify(document)}\n`);
    this.#buffer.bytes.set(bytes);
    this.#buffer.send(this.#fd, 0, bytes.length, 0);
  }

  /** The next reply; greetings and events are passed over. */
  #reply(): Record<string, unknown> | undefined {
    const got = this.#buffer.receive(this.#fd, 0, BUFFER, MSG.DONTWAIT, []);
    if (got > 0) this.#text += new TextDecoder().decode(this.#buffer.bytes.subarray(0, got));
    for (let end = this.#text.indexOf('\n'); end >= 0; end = this.#text.indexOf('\n')) {
      const line = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + 1);
      const document = JSON.parse(line) as Record<string, unknown>;
      if ('return' in document || 'error' in document) this.#replies.push(document);
    }
    return this.#replies.shift();
  }
}
