/** The test card drawn pixel by pixel, without GPU, commands or guest: what the picture must look like. */
import { CARD_HEIGHT, CARD_WIDTH, testCard } from '../../src/guest/test-card.js';

export function referenceCard(): Uint8Array {
  const pixels = new Uint32Array(CARD_WIDTH * CARD_HEIGHT);
  for (const { blits } of testCard())
    for (const blit of blits) {
      const before = blit.op === 'copy' ? pixels.slice() : pixels;
      for (let y = blit.y1; y < blit.y2; y++)
        for (let x = blit.x1; x < blit.x2; x++)
          pixels[y * CARD_WIDTH + x] =
            blit.op === 'fill' ? blit.color : (before[(blit.sy + y - blit.y1) * CARD_WIDTH + (blit.sx + x - blit.x1)] as number);
    }
  const rgba = new Uint8Array(pixels.length * 4);
  pixels.forEach((pixel, i) => {
    rgba.set([(pixel >> 16) & 0xff, (pixel >> 8) & 0xff, pixel & 0xff, 0xff], i * 4);
  });
  return rgba;
}
