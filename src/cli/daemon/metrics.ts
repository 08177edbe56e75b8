/** The daemon's metrics in Prometheus' text form, over HTTP on a socket of the user's or a port of 127.0.0.1 (decision 19). */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { VgpuBus } from '../../core/bus/index.js';
import { ioError } from '../files.js';
import { PrivateServer } from '../private-server.js';
import type { DaemonConfig } from './config.js';
import type { Log } from './log.js';
import type { ThreadHost } from './thread-host.js';

export interface MetricsSources {
  readonly bus: VgpuBus;
  readonly host: ThreadHost;
  readonly log: Log;
}

const CONNECTIONS_MAX = 16;
/** A scraper asks once and reads; who does not is hung up on. */
const REQUEST_LIMIT_MS = 5000;

/** Not as a URL: what a client sends may be none. */
const METRICS = /^\/metrics(\?|$)/;

/** What is counted. Values that the bus has are looked at when somebody asks. */
export function daemonRegistry({ bus, host, log }: MetricsSources): Registry {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const created = new Counter({ name: 'mpt_vgpus_created_total', help: 'vGPUs created', labelNames: ['gpu', 'type'], registers });
  const removed = new Counter({ name: 'mpt_vgpus_removed_total', help: 'vGPUs removed', labelNames: ['gpu', 'type'], registers });
  const clients = new Counter({
    name: 'mpt_clients_total',
    help: 'Clients that were given a device',
    labelNames: ['gpu', 'type'],
    registers,
  });
  bus.on('created', ({ driver, type }) => created.inc({ gpu: driver.gpu, type }));
  bus.on('removed', ({ driver, type }) => removed.inc({ gpu: driver.gpu, type }));
  bus.on('started', ({ driver, type }) => clients.inc({ gpu: driver.gpu, type }));
  new Gauge({
    name: 'mpt_vgpus',
    help: 'vGPUs that there are, by state',
    labelNames: ['gpu', 'type', 'state'],
    registers,
    collect() {
      this.reset();
      for (const vgpu of bus.vgpus)
        this.inc({ gpu: vgpu.driver.gpu, type: vgpu.type, state: vgpu.inUse ? 'in_use' : vgpu.online ? 'online' : 'offline' });
    },
  });
  new Gauge({
    name: 'mpt_vgpus_available',
    help: 'vGPUs that could still be created',
    labelNames: ['gpu', 'type'],
    registers,
    collect() {
      for (const { name: type, driver, configuration } of bus.types) this.set({ gpu: driver.gpu, type }, driver.available(configuration));
    },
  });
  new Gauge({
    name: 'mpt_device_threads',
    help: 'Device threads that live',
    registers,
    collect() {
      this.set(host.count);
    },
  });
  new Gauge({
    name: 'mpt_spare_threads',
    help: 'Threads that have loaded a kind of device and wait for a client',
    registers,
    collect() {
      this.set(host.spares);
    },
  });
  new Counter({
    name: 'mpt_refused_total',
    help: 'Requests and writes that were refused, by error code',
    labelNames: ['code'],
    registers,
    collect() {
      this.reset();
      for (const [code, count] of log.refusals) this.inc({ code }, count);
    },
  });
  new Counter({
    name: 'mpt_vgpu_events_total',
    help: 'What the devices of a vGPU have counted, of vGPUs that were used',
    labelNames: ['vgpu', 'type', 'event'],
    registers,
    collect() {
      this.reset();
      for (const { uuid, type, ops } of bus.vgpus) {
        const counts = ops.extensions.statistics?.() ?? {};
        if (counts['clients'] === 0) continue;
        for (const [event, count] of Object.entries(counts)) this.inc({ vgpu: uuid, type, event }, count);
      }
    },
  });
  return registry;
}

export interface MetricsServer {
  /** For a person: path or URL. */
  readonly address: string;
  close(): Promise<void>;
}

/** @throws MptError IO, BUSY, INVALID_ARGUMENT */
export async function serveMetrics(place: NonNullable<DaemonConfig['metrics']>, sources: MetricsSources): Promise<MetricsServer> {
  const registry = daemonRegistry(sources);
  const http = createServer({ requestTimeout: REQUEST_LIMIT_MS, headersTimeout: REQUEST_LIMIT_MS }, (request, response) => {
    if (request.method !== 'GET' || !METRICS.test(request.url ?? '')) {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('GET /metrics\n');
      return;
    }
    registry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
      (error: unknown) => {
        sources.log.refused('metrics', error);
        response.writeHead(500).end();
      },
    );
  });
  http.maxConnections = CONNECTIONS_MAX;
  http.maxRequestsPerSocket = 1;
  http.on('clientError', (_error, socket) => socket.destroy());
  if ('socket' in place) {
    const server = await PrivateServer.listen(place.socket, {
      op: 'metrics',
      connections: CONNECTIONS_MAX,
      onConnection: (socket) => {
        // Node looks for late requests only where it listens itself.
        const late = setTimeout(() => socket.destroy(), REQUEST_LIMIT_MS).unref();
        http.emit('connection', socket);
        socket.once('close', () => clearTimeout(late));
      },
    });
    return { address: place.socket, close: () => server.close() };
  }
  return listenOnLoopback(http, place.port);
}

async function listenOnLoopback(http: Server, port: number): Promise<MetricsServer> {
  await new Promise<void>((resolve, reject) => {
    http.once('error', (error) => reject(ioError(error, 'metrics', `port ${port} of 127.0.0.1 cannot be listened at`)));
    http.listen(port, '127.0.0.1', resolve);
  });
  const { port: given } = http.address() as AddressInfo;
  return {
    address: `http://127.0.0.1:${given}/metrics`,
    close: () =>
      new Promise((resolve) => {
        http.closeAllConnections();
        http.close(() => resolve());
      }),
  };
}
