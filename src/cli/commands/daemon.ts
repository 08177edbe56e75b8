/** `mpt daemon`: the vGPUs of a host, until a signal. */
import { controlSocket, readDaemonConfig } from '../daemon/config.js';
import { Daemon } from '../daemon/daemon.js';
import { Log } from '../daemon/log.js';
import { EXIT } from '../exit-codes.js';
import { drained, interruptible, print, printJson } from '../terminal.js';

/** How long a reader of the log has for its end. */
const DRAIN_LIMIT_MS = 500;

export interface DaemonOptions {
  config?: string;
  mount?: string;
  runtime?: string;
  log?: 'text' | 'json';
  json?: boolean;
}

export async function daemonCommand({ config: path, mount, runtime, log: logFormat, json }: DaemonOptions): Promise<number> {
  const config = await readDaemonConfig(path, {
    ...(mount === undefined ? {} : { mount }),
    ...(runtime === undefined ? {} : { runtime }),
    ...(logFormat === undefined ? {} : { logFormat }),
  });
  const log = new Log(config.log);
  let stop: () => void = () => {};
  const stopAsked = new Promise<void>((resolve) => {
    stop = resolve;
  });
  await interruptible(
    () => stop(),
    async () => {
      const daemon = await Daemon.start(config, log);
      const { bus } = daemon;
      const control = controlSocket(config.runtime);
      if (json === true)
        printJson({
          type: 'ready',
          control,
          mount: daemon.mounted ?? null,
          metrics: daemon.metrics ?? null,
          gpus: bus.gpus.map(({ gpu }) => gpu),
          vgpus: bus.vgpuCount,
        });
      else {
        print(
          `ready: ${counted(bus.gpus.length, 'GPU')}, ${counted(bus.vgpuCount, 'vGPU')}, control socket ${control}${daemon.mounted === undefined ? '' : `, tree ${daemon.mounted}`}`,
        );
        if (daemon.metrics !== undefined) print(`metrics: ${daemon.metrics}`);
        print('Ctrl-C ends it.');
      }
      await stopAsked;
      await daemon.stop();
    },
  );
  if (json !== true) print('stopped');
  if (!(await drained(DRAIN_LIMIT_MS))) process.exit(EXIT.OK);
  return EXIT.OK;
}

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;
