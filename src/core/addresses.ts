/**
 * Address types. Each is a plain number at run time (physical addresses stay below 2^52, so a number holds them
 * exactly) and a distinct type at compile time: a guest frame cannot be passed where a host frame is meant.
 *
 * The functions of the same names only attach the type. Range checks belong to the operation that takes the address.
 */

declare const unit: unique symbol;
type Tagged<Name extends string> = number & { readonly [unit]: Name };

/** Guest-physical byte address. */
export type Gpa = Tagged<'Gpa'>;
/** Guest frame number: `gpa >> 12`. */
export type Gfn = Tagged<'Gfn'>;
/** Host (machine) frame number. What it denotes is each backend's documented choice; the core only compares and adds. */
export type Mfn = Tagged<'Mfn'>;
/** Byte address that the GPU may use after `dmaMapGuestPage`; 4 KiB aligned when handed out. */
export type DmaAddress = Tagged<'DmaAddress'>;
/** Host virtual byte address of the process that runs the backend. */
export type Hva = Tagged<'Hva'>;
/** Hypervisor's number for a VM (KVM: a number of ours; Xen: domain id; ACRN: VM id). */
export type VmId = Tagged<'VmId'>;
/** vGPU number, 1..7 on one GPU. 0 means "no vGPU". */
export type VgpuId = Tagged<'VgpuId'>;
/** PCI bus/device/function packed as on the wire: `bus << 8 | device << 3 | function`. */
export type Bdf = Tagged<'Bdf'>;

export const Gpa = (value: number): Gpa => value as Gpa;
export const Gfn = (value: number): Gfn => value as Gfn;
export const Mfn = (value: number): Mfn => value as Mfn;
export const DmaAddress = (value: number): DmaAddress => value as DmaAddress;
export const Hva = (value: number): Hva => value as Hva;
export const VmId = (value: number): VmId => value as VmId;
export const VgpuId = (value: number): VgpuId => value as VgpuId;
export const Bdf = (value: number): Bdf => value as Bdf;

/** Bytes in a frame. */
export const PAGE_SIZE = 4096;
export const PAGE_SHIFT = 12;
/** Bytes in a large page, the other size that `dmaMapGuestPage` knows. */
export const HUGE_PAGE_SIZE = 0x20_0000;
/** Guest-physical addresses are below this: 52 bits, the architectural limit of x86-64. */
export const GPA_LIMIT = 2 ** 52;
/** Guest frames are below this. */
export const GFN_LIMIT = 2 ** 40;

/** First byte of a guest frame. */
export const gfnToGpa = (gfn: Gfn): Gpa => (gfn * PAGE_SIZE) as Gpa;
/** Frame that holds a guest byte. Division, not a shift: addresses may exceed 32 bits. */
export const gpaToGfn = (gpa: Gpa): Gfn => Math.floor(gpa / PAGE_SIZE) as Gfn;
/** Byte offset inside the frame. The low 12 bits survive `ToInt32` for every safe integer. */
export const pageOffset = (address: number): number => address & (PAGE_SIZE - 1);

/** Packs a PCI address. */
export const bdf = (bus: number, device: number, fn: number): Bdf => ((bus << 8) | (device << 3) | fn) as Bdf;

/** `0x1f000` style text for messages. */
export const hex = (value: number): string => (value < 0 ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`);
