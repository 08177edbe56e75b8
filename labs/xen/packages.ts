/** The Debian packages that the lab fetches. */
/**
 * Xen 4.17, its tools and libraries, headers for C programs, busybox for the initramfs, xz for the kernel. What else these need (zlib1g,
 * liblzma5, libzstd1, libuuid1) is essential: every Debian has it.
 */
export const XEN_PACKAGES = [
  'xen-hypervisor-4.17-amd64',
  'xen-utils-4.17',
  'xenstore-utils',
  'libxenmisc4.17',
  'libxencall1',
  'libxenevtchn1',
  'libxenforeignmemory1',
  'libxengnttab1',
  'libxenstore4',
  'libxentoolcore1',
  'libxentoollog1',
  'libxendevicemodel1',
  'libxenhypfs1',
  'libxen-dev',
  'libyajl2',
  'busybox-static',
  'xz-utils',
] as const;

/** Depends on the newest kernel, which is fetched. The cloud kernel has no dom0 drivers. */
export const KERNEL_METAPACKAGE = 'linux-image-amd64';

/** With all that it depends on, down to libc, when the machine has no QEMU. */
export const QEMU_PACKAGE = 'qemu-system-x86';
