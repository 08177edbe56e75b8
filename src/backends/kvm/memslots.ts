/**
 * The VM's memory slots: RAM, host pages mapped by map_gfn_to_mfn, and the splits that page track makes of them.
 *
 * Level `trap` protects a frame by giving it a read-only slot of its own. KVM does not allow slots to overlap, nor the
 * read-only flag of a slot to change, so the slot around the frame is deleted and its parts are created again; the one
 * vCPU runs on this same thread and cannot see the gap. Every change is undone when one of its steps fails.
 */
import { type Hva, PAGE_SIZE } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import { OwnedMapping } from '../../native/mapping.js';
import type { Syscalls } from '../../native/syscalls.js';
import { KVM_CONST, KVM_IOCTL, KVM_STRUCT } from './abi.js';

const { kvm_userspace_memory_region: REGION, kvm_dirty_log: DIRTY } = KVM_STRUCT;
const ENOMEM = 12;
const HIGH = 2 ** 32;

interface Slot {
  readonly id: number;
  readonly gfn: number;
  readonly frames: number;
  readonly hva: number;
  /** The `add` that this slot, or the slot it was split from, came from: only parts of one are ever joined again. */
  readonly origin: number;
  flags: number;
}

type SlotShape = Omit<Slot, 'id'>;

const end = (slot: Slot): number => slot.gfn + slot.frames;

export class Memslots {
  readonly #sys: Syscalls;
  readonly #vm: number;
  readonly #limit: number;
  /** Sorted by gfn, disjoint. */
  readonly #slots: Slot[] = [];
  readonly #freeIds: number[] = [];
  #nextId = 0;
  #nextOrigin = 0;
  /** Where KVM writes dirty bitmaps; grown to the largest slot asked for. */
  #bitmap: OwnedMapping | undefined;
  readonly #region = new DataView(new ArrayBuffer(REGION.size));
  readonly #regionBytes = new Uint8Array(this.#region.buffer);

  constructor(sys: Syscalls, vmFd: number, limit: number) {
    this.#sys = sys;
    this.#vm = vmFd;
    this.#limit = limit;
  }

  get count(): number {
    return this.#slots.length;
  }

  /** True when any byte of [start, last] is backed by a slot. */
  overlaps(start: number, last: number): boolean {
    const first = Math.floor(start / PAGE_SIZE);
    const final = Math.floor(last / PAGE_SIZE);
    const slot = this.#slots[this.#indexAfter(first)];
    return slot !== undefined && slot.gfn <= final;
  }

  /** Backs `frames` guest frames with host memory. @throws MptError LIMIT, NO_MEMORY, HYPERVISOR; then nothing changed */
  add(gfn: number, frames: number, hva: Hva): void {
    this.#create({ gfn, frames, hva, flags: 0, origin: this.#nextOrigin++ });
  }

  /** Removes exactly what one `add` created. */
  remove(gfn: number, frames: number): void {
    const slot = this.#slots[this.#indexAfter(gfn)];
    if (slot === undefined || slot.gfn !== gfn || slot.frames !== frames)
      throw new MptError('NOT_MAPPED', 'no memory slot covers exactly these frames', { address: gfn, size: frames });
    this.#delete(slot);
  }

  /** Makes guest writes to the frame exit. */
  protect(gfn: number): void {
    const slot = this.#at(gfn);
    if ((slot.flags & KVM_CONST.KVM_MEM_READONLY) !== 0) return;
    const offset = gfn - slot.gfn;
    this.#replace(
      [slot],
      [
        { ...slot, frames: offset },
        { ...slot, gfn, frames: 1, hva: slot.hva + offset * PAGE_SIZE, flags: slot.flags | KVM_CONST.KVM_MEM_READONLY },
        { ...slot, gfn: gfn + 1, frames: slot.frames - offset - 1, hva: slot.hva + (offset + 1) * PAGE_SIZE },
      ],
    );
  }

  /** The reverse: joins the frame with the writable slots at its sides that continue the same host memory. */
  unprotect(gfn: number): void {
    const slot = this.#at(gfn);
    if ((slot.flags & KVM_CONST.KVM_MEM_READONLY) === 0) return;
    const at = this.#slots.indexOf(slot);
    const parts = [slot];
    const before = this.#slots[at - 1];
    const after = this.#slots[at + 1];
    if (before !== undefined && joins(before, slot)) parts.unshift(before);
    if (after !== undefined && joins(slot, after)) parts.push(after);
    const first = parts[0] as Slot;
    const frames = parts.reduce((sum, part) => sum + part.frames, 0);
    this.#replace(parts, [{ ...first, frames, flags: slot.flags & ~KVM_CONST.KVM_MEM_READONLY }]);
  }

  /** Starts or stops the dirty log of the slot around the frame. @returns true when that changed something */
  logDirty(gfn: number, on: boolean): boolean {
    const slot = this.#at(gfn);
    const flags = on ? slot.flags | KVM_CONST.KVM_MEM_LOG_DIRTY_PAGES : slot.flags & ~KVM_CONST.KVM_MEM_LOG_DIRTY_PAGES;
    if (flags === slot.flags) return false;
    this.#set(slot.id, flags, slot.gfn, slot.frames, slot.hva);
    slot.flags = flags;
    return true;
  }

  /** Slot bounds around a frame, to tell which tracked frames share its log. */
  bounds(gfn: number): { first: number; last: number } {
    const slot = this.#at(gfn);
    return { first: slot.gfn, last: end(slot) - 1 };
  }

  /** Reads and clears the dirty logs: calls `visit` with each slot's first frame, frame count and bitmap. */
  takeDirty(visit: (first: number, frames: number, bitmap: Uint8Array) => void): void {
    for (const slot of this.#slots) {
      if ((slot.flags & KVM_CONST.KVM_MEM_LOG_DIRTY_PAGES) === 0) continue;
      visit(slot.gfn, slot.frames, this.#dirtyBitmap(slot));
    }
  }

  /** Frees the scratch memory; the slots go with the VM. */
  close(): void {
    this.#bitmap?.close();
  }

  #dirtyBitmap(slot: Slot): Uint8Array {
    const bytes = Math.ceil(slot.frames / 64) * 8;
    if (this.#bitmap === undefined || this.#bitmap.length < bytes) {
      this.#bitmap?.close();
      this.#bitmap = OwnedMapping.anonymous(this.#sys, Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE, 'the dirty bitmap');
    }
    const log = new DataView(new ArrayBuffer(DIRTY.size));
    log.setUint32(DIRTY.slot, slot.id, true);
    setU64(log, DIRTY.dirty_bitmap, this.#bitmap.hva);
    const result = this.#sys.ioctlBuffer(this.#vm, KVM_IOCTL.KVM_GET_DIRTY_LOG, new Uint8Array(log.buffer));
    if (result < 0) throw new MptError('HYPERVISOR', 'KVM_GET_DIRTY_LOG failed', { errno: -result, address: slot.gfn });
    return new Uint8Array(this.#bitmap.buffer, 0, bytes);
  }

  /** Deletes `old`, creates `parts` (empty ones skipped); on failure restores `old` and throws. */
  #replace(old: readonly Slot[], parts: readonly SlotShape[]): void {
    const wanted = parts.filter((part) => part.frames > 0);
    if (this.#slots.length - old.length + wanted.length > this.#limit)
      throw new MptError('LIMIT', 'no memory slot is free', { address: (old[0] as Slot).gfn, limit: this.#limit });
    const deleted: Slot[] = [];
    const created: Slot[] = [];
    try {
      for (const slot of old) {
        this.#delete(slot);
        deleted.push(slot);
      }
      for (const part of wanted) created.push(this.#create(part));
    } catch (error) {
      for (const slot of created) this.#delete(slot);
      for (const slot of deleted) this.#create(slot);
      throw error;
    }
  }

  #create({ gfn, frames, hva, flags, origin }: SlotShape): Slot {
    if (this.#slots.length >= this.#limit) throw new MptError('LIMIT', 'no memory slot is free', { address: gfn, limit: this.#limit });
    const id = this.#freeIds.pop() ?? this.#nextId++;
    try {
      this.#set(id, flags, gfn, frames, hva);
    } catch (error) {
      this.#freeIds.push(id);
      throw error;
    }
    const slot = { id, gfn, frames, hva, flags, origin };
    this.#slots.splice(this.#indexAfter(gfn), 0, slot);
    return slot;
  }

  #delete(slot: Slot): void {
    this.#set(slot.id, 0, slot.gfn, 0, slot.hva);
    this.#slots.splice(this.#slots.indexOf(slot), 1);
    this.#freeIds.push(slot.id);
  }

  #set(id: number, flags: number, gfn: number, frames: number, hva: number): void {
    const view = this.#region;
    view.setUint32(REGION.slot, id, true);
    view.setUint32(REGION.flags, flags, true);
    setU64(view, REGION.guest_phys_addr, gfn * PAGE_SIZE);
    setU64(view, REGION.memory_size, frames * PAGE_SIZE);
    setU64(view, REGION.userspace_addr, hva);
    const result = this.#sys.ioctlBuffer(this.#vm, KVM_IOCTL.KVM_SET_USER_MEMORY_REGION, this.#regionBytes);
    if (result < 0)
      throw new MptError(-result === ENOMEM ? 'NO_MEMORY' : 'HYPERVISOR', 'KVM_SET_USER_MEMORY_REGION failed', {
        errno: -result,
        address: gfn * PAGE_SIZE,
        size: frames * PAGE_SIZE,
      });
  }

  #at(gfn: number): Slot {
    const slot = this.#slots[this.#indexAfter(gfn)];
    if (slot === undefined || slot.gfn > gfn) throw new MptError('NOT_RAM', 'no memory slot backs the frame', { address: gfn });
    return slot;
  }

  /** Index of the first slot that ends after `gfn`. */
  #indexAfter(gfn: number): number {
    let low = 0;
    let high = this.#slots.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (end(this.#slots[middle] as Slot) <= gfn) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** `b` continues `a`, of which one is the frame that becomes writable and the other is writable already. */
const joins = (a: Slot, b: Slot): boolean =>
  a.origin === b.origin && end(a) === b.gfn && (a.flags & b.flags & KVM_CONST.KVM_MEM_READONLY) === 0;

const setU64 = (view: DataView, offset: number, value: number): void => {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / HIGH), true);
};
