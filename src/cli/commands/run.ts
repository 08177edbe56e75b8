/** `mpt run`: the main job, from backend selection to the picture. */
import { selectBackend } from '../../backends/index.js';
import { DeviceThread } from '../../device-thread/device-thread.js';
import type { RunInput, RunNotice, RunOutput } from '../../jobs/run.js';
import { type Config, checkConfig, readConfig } from '../config.js';
import { EXIT } from '../exit-codes.js';
import { checkWritable } from '../files.js';
import { outputsOf } from '../outputs.js';
import { interruptible, Progress, print, printJson } from '../terminal.js';

export interface RunOptions {
  backend?: string;
  fallback?: string;
  picture?: string;
  config?: string;
  domain?: string;
  ram?: number;
  type?: string;
  record?: string;
  trace?: string;
  /** Bytes. */
  recordLimit?: number;
  traceLimit?: number;
  json?: boolean;
}

const DEFAULTS = { backend: 'auto', ramMiB: 16, type: 'GVTg_V4_8' } as const;

export async function runCommand(options: RunOptions): Promise<number> {
  const started = performance.now();
  const config = await mergeConfig(options);
  const selection = selectBackend({
    prefer: config.backend ?? DEFAULTS.backend,
    ...(config.fallback === undefined ? {} : { fallback: config.fallback }),
    ...(config.options === undefined ? {} : { options: config.options }),
  });
  const { name } = selection.backend;
  if (config.picture !== undefined) checkWritable(config.picture, 'picture');
  const input: RunInput = {
    backend: name,
    options: config.backend === name ? (config.options ?? {}) : {},
    ...(config.domain === undefined ? {} : { domain: config.domain }),
    ramMiB: config.ramMiB ?? DEFAULTS.ramMiB,
    type: config.type ?? DEFAULTS.type,
    ...outputsOf(options),
  };
  const announce = options.json === true ? undefined : `backend ${name} (${selection.reason})`;
  const output = await runOnDeviceThread(input, announce);
  // The encoder is loaded only for runs that keep the picture.
  const picture = config.picture === undefined ? null : (await import('../picture.js')).writePicture(config.picture, output.picture);
  const ms = Math.round(performance.now() - started);
  const { device, exits, interrupts, workloads, commands, guestErrors } = output;
  if (options.json === true) {
    printJson({ backend: name, device, exits, interrupts, workloads, commands, guestErrors, picture, ms });
    return EXIT.OK;
  }
  print(`device  ${device.id} at ${device.bdf}, type ${device.type}, vGPU ${device.vgpuId}`);
  print(
    `exits   ${Object.entries(exits)
      .map(([kind, count]) => `${kind} ${count}`)
      .join(', ')}`,
  );
  print(`work    ${workloads} workloads, ${commands} commands, ${interrupts} interrupts counted by the guest`);
  if (picture !== null) print(`picture ${picture.path}, ${picture.width}x${picture.height}, sha256 ${picture.sha256}`);
  print(`done    in ${ms} ms`);
  return EXIT.OK;
}

/** The command line wins over the configuration file. */
async function mergeConfig(options: RunOptions): Promise<Config> {
  const file: Config = options.config === undefined ? {} : await readConfig(options.config);
  const { backend, fallback, domain, ram: ramMiB, type, picture } = options;
  const given = { backend, fallback, domain, ramMiB, type, picture };
  const config = { ...file, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) } as Config;
  // Options belong to the backend that the file names.
  if (options.backend !== undefined && options.backend !== file.backend && file.options !== undefined)
    await checkConfig({ backend: options.backend, options: file.options }, options.config ?? 'configuration');
  return config;
}

async function runOnDeviceThread(input: RunInput, announce: string | undefined): Promise<RunOutput> {
  const progress = new Progress();
  const thread = new DeviceThread<RunOutput>(new URL('../../jobs/run.js', import.meta.url), input);
  thread.on('progress', (text) => progress.show(text));
  thread.on('notice', (notice) => void process.stderr.write(`mpt: ${(notice as RunNotice).text}\n`));
  try {
    return await interruptible(
      () => void thread.stop(),
      () => {
        // Said only now, when a signal is already handled.
        if (announce !== undefined) print(announce);
        return thread.result;
      },
    );
  } finally {
    progress.clear();
  }
}
