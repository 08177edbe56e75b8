/** The backend with the device of bench/baseline/exits.c: registers behind a bounds check, and a count of tracked stores. */
import { Gfn, Gpa, PAGE_SIZE } from '../../src/core/addresses.js';
import { IoKind, type IoRequest } from '../../src/core/io-request.js';
import { GuestAgent } from '../../src/guest/agent.js';
import { BAR, openHandle, type Scene, TRACKED } from './guest.js';

const BAR_SIZE = 0x20_0000;

export function bareScene(track: boolean): Scene {
  const { handle, machine } = openHandle();
  const registers = new Uint32Array(BAR_SIZE / 4);
  let reported = 0;
  handle.setTrapArea(Gpa(BAR), Gpa(BAR + BAR_SIZE - 1), true);
  if (track) handle.enablePageTrack(Gfn(TRACKED / PAGE_SIZE));
  const device = (request: IoRequest): void => {
    reported++;
    if (request.kind === IoKind.WP) return;
    const offset = request.address - BAR;
    if (!(offset >= 0 && offset <= BAR_SIZE - request.size)) return;
    if (request.write) registers[offset >>> 2] = request.value[0] as number;
    else request.value[0] = registers[offset >>> 2] as number;
  };
  const agent = new GuestAgent(machine, device);
  agent.boot();
  return { agent, reported: () => reported };
}
