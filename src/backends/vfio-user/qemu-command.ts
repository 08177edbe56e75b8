/**
 * A QEMU machine for guest code without firmware: its command line, and the few instructions that stand where a BIOS would. They place
 * the BARs, make the shadow RAM below 1 MiB plain memory, and wait at a port until they are told where to jump.
 */
import { PAGE_SIZE } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import type { RamRegion } from '../../core/ram-access.js';

const FOUR_GIB = 2 ** 32;
/** QEMU rounds the size of RAM. */
const RAM_ALIGN = 8192;

/** The ports of the guest's test code, as I/O BARs of a function of their own: BAR number, first port, bytes. */
export const PORT_BARS = [
  { index: 0, port: 0xe00, size: 0x100 },
  { index: 1, port: 0xa00, size: 0x100 },
  { index: 2, port: 0x90, size: 4 },
] as const;
/** Read here by the start code until it is not 0: the segment to jump to. */
export const GO_PORT = 0xe08;
/** Where the port function stands, and the first function with a RAM region. */
export const PORT_DEVICE = 0x1e;
const FIRST_ISLAND = 0x10;

interface Layout {
  /** Bytes of RAM from 0 on. */
  readonly low: number;
  /** Bytes of RAM from 4 GiB on. */
  readonly high: number;
  /** RAM elsewhere: the BAR of an ivshmem device each. */
  readonly islands: readonly RamRegion[];
}

/** @throws MptError UNSUPPORTED for what no PC of QEMU has */
export function layoutOf(ram: readonly RamRegion[]): Layout {
  let low = 0;
  let high = 0;
  const islands: RamRegion[] = [];
  for (const region of ram) {
    if (region.gpa === low && region.gpa < FOUR_GIB) low += region.size;
    else if (region.gpa === FOUR_GIB + high) high += region.size;
    else islands.push(region);
  }
  const fits = islands.every(({ gpa, size }) => (size & (size - 1)) === 0 && gpa % size === 0 && gpa + size <= FOUR_GIB);
  if (low < 1 << 20 || low % RAM_ALIGN !== 0 || high % RAM_ALIGN !== 0 || !fits || islands.length > 4)
    throw new MptError('UNSUPPORTED', 'QEMU has no PC with this RAM', {
      op: 'create_machine',
      hint: '1 MiB or more from 0 on, from 4 GiB on, and up to four regions of a power of two',
    });
  return { low, high, islands };
}

export interface QemuFunction {
  /** PCI device number on bus 0, function 0. */
  readonly device: number;
  readonly socket: string;
}

/** @param command the words that start QEMU, without machine */
export function qemuCommand(
  command: readonly string[],
  folder: string,
  ram: readonly RamRegion[],
  functions: readonly QemuFunction[],
): string[] {
  const { low, high, islands } = layoutOf(ram);
  const words = [
    ...command,
    '-nodefaults',
    '-no-user-config',
    '-display',
    'none',
    '-accel',
    'tcg',
    '-machine',
    `pc,memory-backend=ram,max-ram-below-4g=${low},hpet=off,usb=off`,
    '-m',
    `size=${low + high}B`,
    '-object',
    `memory-backend-memfd,id=ram,size=${low + high},share=on`,
    '-bios',
    `${folder}/start`,
    '-qmp',
    `unix:${folder}/qmp,server=on,wait=off`,
  ];
  islands.forEach(({ size }, i) => {
    words.push('-object', `memory-backend-memfd,id=island${i},size=${size},share=on`);
    words.push('-device', `ivshmem-plain,memdev=island${i},bus=pci.0,addr=0x${(FIRST_ISLAND + i).toString(16)}`);
  });
  for (const { device, socket } of functions) words.push('-device', deviceOption(device, socket));
  return words;
}

/** Of -device, and of QMP's device_add. */
export const deviceArguments = (device: number, socket: string) => ({
  driver: 'vfio-user-pci',
  id: `vgpu${device}`,
  bus: 'pci.0',
  addr: `0x${device.toString(16)}`,
  socket: { type: 'unix', path: socket },
});
const deviceOption = (device: number, socket: string): string => JSON.stringify(deviceArguments(device, socket));

/**
 * The start code, as an image of 64 KiB that ends at 4 GiB: the reset vector lies 16 bytes before its end.
 * @param devices of vGPUs: they may write to memory
 */
export function startCode(ram: readonly RamRegion[], devices: readonly number[]): Uint8Array {
  const code: number[] = [];
  const u16 = (value: number): number[] => [value & 0xff, value >>> 8];
  const u32 = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
  // mov eax, imm32; mov dx, port; out dx, eax
  const out32 = (port: number, value: number): void => void code.push(0x66, 0xb8, ...u32(value), 0xba, ...u16(port), 0x66, 0xef);
  const config = (device: number, register: number, value: number): void => {
    out32(0xcf8, 0x8000_0000 + device * 0x800 + register);
    out32(0xcfc, value);
  };
  code.push(0xfa); // cli
  // PAM of the i440FX, registers 0x59-0x5f: reads and writes of 0xc0000-0xfffff go to RAM. The code runs below 4 GiB.
  config(0, 0x58, 0x3333_3000);
  config(0, 0x5c, 0x3333_3333);
  for (const { index, port } of PORT_BARS) config(PORT_DEVICE, 0x10 + 4 * index, port);
  config(PORT_DEVICE, 4, IO | BUS_MASTER);
  layoutOf(ram).islands.forEach(({ gpa }, i) => {
    // BAR2, 64 bits wide; BAR0, the registers of ivshmem, where nothing else is.
    config(FIRST_ISLAND + i, 0x10, ISLAND_REGISTERS + i * PAGE_SIZE);
    config(FIRST_ISLAND + i, 0x18, gpa);
    config(FIRST_ISLAND + i, 0x1c, 0);
    config(FIRST_ISLAND + i, 4, MEMORY);
  });
  // Messages of a function's interrupts are its own writes to memory.
  for (const device of devices) config(device, 4, BUS_MASTER);
  code.push(0xbc, ...u16(0x7c00)); // mov sp, 0x7c00
  code.push(0xba, ...u16(GO_PORT)); // mov dx, GO_PORT
  code.push(0x66, 0xed, 0x85, 0xc0, 0x74, 0xfa); // in eax, dx; test ax, ax; jz in
  code.push(0x50, 0x6a, 0x00, 0xcb); // push ax; push 0; retf
  const image = new Uint8Array(0x1_0000);
  image.set(code);
  // jmp near, from the reset vector to the image's start.
  image.set([0xe9, ...u16((0x1_0000 - (RESET_VECTOR + 3)) & 0xffff)], RESET_VECTOR);
  return image;
}

const RESET_VECTOR = 0xfff0;
const IO = 1;
const MEMORY = 2;
const BUS_MASTER = 4;
const ISLAND_REGISTERS = 0xe000_0000;
