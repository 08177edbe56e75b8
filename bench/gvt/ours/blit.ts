/** `blit clear|fill|copy`: XY_COLOR_BLT of a colour of four equal bytes, of another one, or XY_SRC_COPY_BLT of 1920 x 1080 pixels of 4 bytes, from the submission to the last slice. */
import { nowNs, type Open } from '../../ours/sample.js';
import { BCS, openVgpu, PAGE } from './vgpu.js';

const [WIDTH, HEIGHT] = [1920, 1080] as const;
const PITCH = WIDTH * 4;
/** As in bench/baseline/gvt/blit.c. */
const RAM_BYTES = 32 << 20;
const TARGET = 0x20_0000;
const SOURCE = 0x100_0000;
const [STATUS, CONTEXT, RING] = [1, 2, 4] as const;
const SLICE = 4096;
/** Bytes of a command with what fills it up: the ring is a multiple of it. */
const RING_STEP = 64;

export const open: Open = ([what]) => {
  const { gvt, vgpu, write, ram, map } = openVgpu(RAM_BYTES);
  const { start: aperture } = vgpu.resources.aperture;
  map(0, 0, RAM_BYTES / PAGE);
  write(BCS + 0x80, aperture + STATUS * PAGE);
  write(BCS + 0x29c, 0x8000_8000);
  const image = (CONTEXT + 1) * PAGE;
  ram(image + 0x24, [aperture + RING * PAGE]);
  ram(image + 0x2c, [1]);
  const corner = HEIGHT * 0x1_0000 + WIDTH;
  const br13 = (3 << 24) | PITCH;
  const command = new Uint32Array(RING_STEP / 4);
  command.set(
    what !== 'copy'
      ? [0x5430_0005, br13 | (0xf0 << 16), 0, corner, aperture + TARGET, 0, 0]
      : [0x54f0_0008, br13 | (0xcc << 16), 0, corner, aperture + TARGET, 0, 0, PITCH, aperture + SOURCE, 0],
  );
  let head = 0;
  return (count) => {
    const start = nowNs();
    for (let i = 0; i < count; i++) {
      if (what !== 'copy') command[6] = what === 'fill' ? 0x1_0000 + i : (i & 0xff) * 0x101_0101;
      ram(RING * PAGE + head, command);
      head = (head + RING_STEP) % PAGE;
      ram(image + 0x1c, [head]);
      for (const dword of [0, 0, 1, aperture + CONTEXT * PAGE + 0x109]) write(BCS + 0x230, dword);
      while (vgpu.submission.hasWork) gvt.runSlice(SLICE);
    }
    const hung = vgpu.submission.hung(1);
    if (hung !== undefined) throw new Error(hung);
    return nowNs() - start;
  };
};
