/** Kernels as Debian ships them, made ready for QEMU. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { must } from './children.js';

/**
 * Takes the ELF file out of a bzImage (Documentation/arch/x86/boot.rst: setup_sects at 0x1f1, payload_offset at 0x248,
 * payload_length at 0x24c): uncompressing it in an emulated CPU takes seconds of each boot.
 * @param image the bzImage, whose payload is xz. @param xz that program. @param vmlinux the ELF file to write
 */
export async function uncompressKernel(image: string, xz: string, vmlinux: string): Promise<void> {
  const bytes = readFileSync(image);
  const start = (bytes.readUInt8(0x1f1) + 1) * 512 + bytes.readUInt32LE(0x248);
  // The last 4 bytes are the length of what comes out.
  const payload = `${vmlinux}.xz`;
  writeFileSync(payload, bytes.subarray(start, start + bytes.readUInt32LE(0x24c) - 4));
  await must('bash', ['-c', '"$1" -dc "$2" >"$3"', 'unxz', xz, payload, vmlinux]);
  rmSync(payload);
}
