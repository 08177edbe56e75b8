/**
 * The page that shows a display, and its WebSocket, on loopback. A page of another site cannot reach them: requests must name this
 * server as their host (a name that was rebound to 127.0.0.1 does not), and a WebSocket must come from this server's own page.
 */
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { MptError } from '../../core/errors.js';
import { ioError } from '../files.js';
import type { DisplayFeed } from './feed.js';
import { Viewer } from './viewer.js';

const LOOPBACK = '127.0.0.1';
const HTTP_PORT = 80;
/** Pages at once; connections of any kind at once. */
export const VIEWERS_MAX = 16;
const CONNECTIONS_MAX = 64;
/** Where the page opens its WebSocket. */
export const STREAM_PATH = '/display';
/** Pages send nothing. */
const MESSAGE_MAX = 64;
/** RFC 6455, 7.4.1. */
const GOING_AWAY = 1001;
const POLICY_VIOLATION = 1008;
const CLOSE_LIMIT_MS = 500;

const PAGE: Readonly<Record<string, readonly [file: string, type: string]>> = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/page.mjs': ['page.mjs', 'text/javascript; charset=utf-8'],
  '/page.css': ['page.css', 'text/css; charset=utf-8'],
};

const HEADERS = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'",
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
} as const;

export class DisplayWebServer {
  readonly #feed: DisplayFeed;
  readonly #http: Server;
  readonly #sockets = new WebSocketServer({ noServer: true, maxPayload: MESSAGE_MAX, perMessageDeflate: false });
  readonly #viewers = new Map<WebSocket, Viewer>();
  #hosts: readonly string[] = [];

  /**
   * Listens on 127.0.0.1. The feed runs while a page looks.
   * @param port 0 for any that is free
   * @throws MptError IO when the port is in use or not allowed
   */
  static async listen(feed: DisplayFeed, port: number): Promise<DisplayWebServer> {
    const self = new DisplayWebServer(feed);
    await self.#listen(port);
    return self;
  }

  private constructor(feed: DisplayFeed) {
    this.#feed = feed;
    this.#http = createServer((request, response) => this.#answer(request, response));
    this.#http.maxConnections = CONNECTIONS_MAX;
    this.#http.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
    feed.on('update', (update) => {
      for (const viewer of this.#viewers.values()) viewer.update(update);
    });
  }

  get port(): number {
    return (this.#http.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://${LOOPBACK}:${this.port}/`;
  }

  /** Pages that look now. */
  get viewers(): number {
    return this.#viewers.size;
  }

  /** Says goodbye to the pages and stops listening. */
  async close(): Promise<void> {
    this.#feed.stop();
    this.#feed.removeAllListeners();
    const closed = new Promise<void>((resolve) => this.#http.close(() => resolve()));
    for (const socket of this.#viewers.keys()) socket.close(GOING_AWAY, 'mpt display ended');
    // A page that does not answer the goodbye, and idle connections that a browser keeps.
    const timer = setTimeout(() => {
      for (const socket of this.#viewers.keys()) socket.terminate();
      this.#http.closeAllConnections();
    }, CLOSE_LIMIT_MS);
    this.#http.closeIdleConnections();
    await closed;
    clearTimeout(timer);
  }

  #listen(port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#http.once('error', (error: NodeJS.ErrnoException) => {
        const { errno } = ioError(error, 'display', '');
        const inUse = error.code === 'EADDRINUSE';
        reject(
          new MptError('IO', inUse ? `port ${port} of ${LOOPBACK} is in use` : `port ${port} of ${LOOPBACK} cannot be listened at`, {
            op: 'display',
            ...(errno === undefined ? { cause: error } : { errno }),
            hint: 'name another port, or 0 for any that is free',
          }),
        );
      });
      this.#http.listen(port, LOOPBACK, () => {
        const names = [LOOPBACK, 'localhost'];
        this.#hosts = [...names.map((name) => `${name}:${this.port}`), ...(this.port === HTTP_PORT ? names : [])];
        this.#http.on('error', () => {});
        resolve();
      });
    });
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const refusal = this.#refusalOf(request);
    if (refusal !== undefined) {
      const [status, why] = refusal;
      response.writeHead(status, { ...HEADERS, 'Content-Type': 'text/plain; charset=utf-8' }).end(`${why}\n`);
      return;
    }
    const [file, type] = PAGE[request.url as string] as readonly [string, string];
    response.writeHead(200, { ...HEADERS, 'Content-Type': type });
    response.end(request.method === 'HEAD' ? undefined : readFileSync(new URL(`./page/${file}`, import.meta.url)));
  }

  #refusalOf({ headers: { host = '' }, method = '', url = '' }: IncomingMessage): readonly [status: number, why: string] | undefined {
    if (!this.#hosts.includes(host)) return [403, 'this host is not served here'];
    if (method !== 'GET' && method !== 'HEAD') return [405, 'only GET is served'];
    return Object.hasOwn(PAGE, url) ? undefined : [404, 'there is no such page'];
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => {});
    const refusal = this.#upgradeRefusalOf(request);
    if (refusal === undefined) this.#sockets.handleUpgrade(request, socket, head, (page) => this.#show(page));
    else socket.end(`HTTP/1.1 ${refusal}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  }

  #upgradeRefusalOf({ headers: { host = '', origin = '' }, url }: IncomingMessage): string | undefined {
    if (!this.#hosts.includes(host) || !this.#hosts.some((name) => origin === `http://${name}`)) return '403 Forbidden';
    if (url !== STREAM_PATH) return '404 Not Found';
    return this.#viewers.size >= VIEWERS_MAX ? '503 Service Unavailable' : undefined;
  }

  #show(page: WebSocket): void {
    page.on('error', () => {});
    page.on('message', () => page.close(POLICY_VIOLATION, 'pages send nothing'));
    page.on('close', () => {
      this.#viewers.delete(page);
      if (this.#viewers.size === 0) this.#feed.stop();
    });
    if (this.#viewers.size === 0) this.#feed.start();
    this.#viewers.set(page, new Viewer(page, this.#feed));
  }
}
