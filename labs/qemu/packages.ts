/** The Debian packages that the lab fetches. */

/**
 * For the guest, with all that they depend on, so that nothing of the machine is needed: busybox runs the initramfs, lspci reads the
 * device, xz uncompresses the kernel.
 */
export const GUEST_PACKAGES = ['busybox-static', 'pciutils', 'xz-utils'] as const;

/** Depends on the newest kernel, which is fetched. The cloud kernel has no graphics drivers. */
export const KERNEL_METAPACKAGE = 'linux-image-amd64';

/** Its vfio-user client came with 10.1: Debian 12 has an older one. */
export const QEMU_PACKAGE = 'qemu-system-x86';

/** Where a new enough QEMU is; what it needs is in the release that the backports are for. */
export const QEMU_RELEASES = ['trixie', 'trixie-backports'] as const;

/** Modules that a guest may load. With them the tree gets all that they depend on. */
export const MODULES = [
  ...['bochs', 'i915', 'gpio-pci-idio-16', 'uio_pci_generic', 'vfio-pci', 'vfio_iommu_type1'],
  ...['virtio_pci', '9pnet_virtio', '9p', 'virtio_input', 'evdev'],
] as const;

/** Debian's benchmarks for i915, for the job that has a GPU to drive; fetched when that runs. */
export const IGT_PACKAGE = 'intel-gpu-tools';

/** Its programs that the job runs, as paths in the package. */
export const IGT_PROGRAMS = [
  'gem_blt',
  'gem_busy',
  'gem_create',
  'gem_exec_ctx',
  'gem_exec_nop',
  'gem_exec_reloc',
  'gem_latency',
  'gem_prw',
].map((name) => `usr/libexec/igt-gpu-tools/benchmarks/${name}`);

/** Programs for DRM devices: modetest lists connectors and sets modes. Fetched when a job wants them. */
export const DRM_TESTS_PACKAGE = 'libdrm-tests';
export const DRM_TESTS_PROGRAMS = ['usr/bin/modetest'];

/**
 * Weston, a Wayland compositor, with what it needs in a guest that has nothing else: fonts for its terminal, keyboards, udev for libinput.
 * Mesa's drivers are for its OpenGL renderer.
 */
export const DESKTOP_PACKAGES = ['weston', 'fonts-dejavu-core', 'xkb-data', 'udev', 'libgl1-mesa-dri'] as const;
