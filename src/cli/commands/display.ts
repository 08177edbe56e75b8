/** `mpt display`: the plane of a device that `mpt serve` serves, as a PNG file or as a page that shows it live. */
import { resolve } from 'node:path';
import { MptError } from '../../core/errors.js';
import { displaySocketPath } from '../display/protocol.js';
import { connectTo, fetchPicture } from '../display/socket-client.js';
import { EXIT } from '../exit-codes.js';
import { checkWritable } from '../files.js';
import { interruptible, print, printJson } from '../terminal.js';

export interface DisplayOptions {
  picture?: string;
  listen?: number;
  json?: boolean;
}

/** @param socket of the server: what `mpt serve --socket` was given */
export async function displayCommand(socket: string, options: DisplayOptions): Promise<number> {
  const { picture, listen, json = false } = options;
  const path = displaySocketPath(resolve(socket));
  if (picture !== undefined && listen === undefined) return save(path, picture, json);
  if (listen !== undefined && picture === undefined) return serve(path, listen, json);
  throw new MptError('INVALID_ARGUMENT', 'exactly one of --picture and --listen is needed', { op: 'display' });
}

async function save(path: string, file: string, json: boolean): Promise<number> {
  checkWritable(file, 'picture');
  const picture = await fetchPicture(path);
  if (picture === undefined)
    throw new MptError('NO_PICTURE', 'the display is off', { op: 'display', hint: 'the guest has set no mode, or one that is not shown' });
  const written = (await import('../picture.js')).writePicture(file, picture);
  if (json) printJson({ picture: written });
  else print(`picture ${written.path}, ${written.width}x${written.height}, sha256 ${written.sha256}`);
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
