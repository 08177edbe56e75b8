/**
 * What a backend declares about itself. Honest both ways: what is declared works, what is not declared answers
 * `MptError` code `UNSUPPORTED`; the conformance suite checks both. Each flag says what the core does without it.
 */

/**
 * How guest writes to a tracked frame are found.
 * - `trap`: each write is reported with its data before the guest's next instruction.
 * - `sync`: frames whose content was changed are found at the next synchronisation point (`syncPageTrack`), without the data. A write
 *   that stores what was there already need not be found.
 */
export type PageTrackLevel = 'trap' | 'sync';

export interface Capabilities {
  /** Level in force of enable/disable_page_track, or null. Without it: shadow tables are rebuilt before every workload. */
  readonly pageTrack: PageTrackLevel | null;
  /** map_gfn_to_mfn. Without it: the aperture is trapped and translated access by access. */
  readonly mapGfnToMfn: boolean;
  /** set_trap_area. Without it: the transport must deliver a BAR's accesses by itself (`barAccess`). */
  readonly setTrapArea: boolean;
  /** Accesses to a vGPU's BARs are delivered wherever the guest puts them, without set_trap_area (vfio-user). Without it: set_trap_area. */
  readonly barAccess: boolean;
  /**
   * A VM of ours is nothing but RAM, in any layout, and vGPUs, at any PCI function; ports, memory without RAM and other functions are
   * delivered too, for no vGPU. Without it: the VM is a machine with devices that are not ours (QEMU), and only accesses to vGPUs come.
   * The core needs no others.
   */
  readonly wholeBus: boolean;
  /** set_pvmmio (ACRN). Without it: the granted pvmmio mask is 0 and every register access traps. */
  readonly setPvmmio: boolean;
  /** dom0_ready (ACRN). Without it: nobody is told that the service VM's display is up. */
  readonly dom0Ready: boolean;
  /** set_opregion. Without it: cfg 0xFC reads 0 and the guest driver uses its defaults. */
  readonly setOpregion: boolean;
  /** set_edid. Without it: the monitor is the vGPU type's and does not change at run time. */
  readonly setEdid: boolean;
  /** get_vfio_device / put_vfio_device. Without it: plane buffers are not reference-counted against a VFIO device. */
  readonly vfioDevice: boolean;
  /** is_valid_gfn. Without it: every gfn counts as valid and dma_map_guest_page decides. */
  readonly isValidGfn: boolean;
  /** dma_pin_guest_page. Without it: exported planes hold their pages through the GGTT's own mapping only. */
  readonly dmaPin: boolean;
  /** dma_map_guest_page with 2 MiB. Without it: large guest pages are split into 512 entries. */
  readonly dmaHugePage: boolean;
  /** Host pages that map_gfn_to_mfn accepts can be allocated (`allocateHostPages`). Without it: no OpRegion, no pvmmio. */
  readonly hostPages: boolean;
  /** The process may create VMs of its own (`createMachine`). Without it: a VM must exist before attach. */
  readonly machine: boolean;
  /** A VM that something else created can be taken up (`openMachine`). Without it: only VMs of `createMachine`. */
  readonly foreignVm: boolean;
  /** `armMsi`: an MSI can be raised from any thread by a write to a file descriptor. Without it: by inject_msi only. */
  readonly msiEventfd: boolean;
}

export type Capability = keyof Capabilities;

/** True when the capability is present in any form. */
export const has = (capabilities: Capabilities, name: Capability): boolean => capabilities[name] !== false && capabilities[name] !== null;
