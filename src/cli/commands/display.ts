/** `mpt display`: the plane of a device that `mpt serve` serves, as a PNG file or as a page that shows it live, and its monitor. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { MptError } from '../../core/errors.js';
import { checkedEdid } from '../../core/gvt/display/edid.js';
import { displaySocketPath, type MonitorOrder } from '../display/protocol.js';
import { connectTo, fetchPicture, orderMonitor } from '../display/socket-client.js';
import { EXIT } from '../exit-codes.js';
import { checkWritable, ioError } from '../files.js';
import { interruptible, print, printJson } from '../terminal.js';

export interface DisplayOptions {
  picture?: string;
  listen?: number;
  /** File of an EDID. */
  edid?: string;
  plug?: boolean;
  unplug?: boolean;
  json?: boolean;
}

/** @param socket of the server: what `mpt serve --socket` was given */
export async function displayCommand(socket: string, options: DisplayOptions): Promise<number> {
  const { picture, listen, edid, plug, unplug, json = false } = options;
  const path = displaySocketPath(resolve(socket));
  const given = [picture, listen, edid, plug, unplug].filter((option) => option !== undefined);
  if (given.length !== 1)
    throw new MptError('INVALID_ARGUMENT', 'exactly one of --picture, --listen, --edid, --plug and --unplug is needed', { op: 'display' });
  if (picture !== undefined) return save(path, picture, json);
  if (listen !== undefined) return serve(path, listen, json);
  return change(path, { op: 'monitor', connected: unplug === undefined, ...(edid === undefined ? {} : { edid: readEdid(edid) }) }, json);
}

/** As hexadecimal digits. What is no EDID is refused here, before the monitor that there is is unplugged. */
function readEdid(file: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw ioError(error, 'display', `${file} cannot be read`);
  }
  return Buffer.from(checkedEdid(bytes)).toString('hex');
}

async function change(path: string, order: MonitorOrder, json: boolean): Promise<number> {
  await orderMonitor(path, order);
  const { connected, edid } = order;
  if (json) printJson({ connected, edid: edid !== undefined });
  else print(connected ? (edid === undefined ? 'the monitor is connected' : 'another monitor is connected') : 'the monitor is unplugged');
  return EXIT.OK;
}

async function save(path: string, file: string, json: boolean): Promise<number> {
  checkWritable(file, 'picture');
  const picture = await fetchPicture(path);
  if (picture === undefined)
    throw new MptError('NO_PICTURE', 'the display is off', {
      op: 'display',
      hint: 'the guest has set no mode, or one that is not shown, or its vGPU is put away',
    });
  const written = (await import('../picture.js')).writePicture(file, picture);
  const { planes = [] } = picture;
  if (json) printJson({ picture: written, ...(picture.planes === undefined ? {} : { planes }) });
  else {
    print(`picture ${written.path}, ${written.width}x${written.height}, sha256 ${written.sha256}`);
    for (const { kind, width, height, left, top, format, tiling } of planes)
      print(
        `  ${kind}: ${width}x${height} at ${left},${top}, ${format}, ${tiling === 'linear' ? 'linear' : `${tiling.toUpperCase()}-tiled`}`,
      );
  }
  return EXIT.OK;
}

async function serve(path: string, port: number, json: boolean): Promise<number> {
  // Tells a wrong path now, not to a page.
  (await connectTo(path)).destroy();
  const [{ DisplayFeed }, { DisplayWebServer }] = await Promise.all([import('../display/feed.js'), import('../display/web-server.js')]);
  let stop: () => void = () => {};
  const stopped = new Promise<void>((resolve) => {
    stop = resolve;
  });
  // A signal may come as soon as the address is printed.
  await interruptible(stop, async () => {
    const server = await DisplayWebServer.listen(new DisplayFeed(path), port);
    if (json) printJson({ url: server.url });
    else print(`display on ${server.url}\nCtrl-C ends it.`);
    await stopped;
    await server.close();
  });
  if (!json) print('stopped');
  return EXIT.OK;
}
