/** A Debian of unpacked packages for programs that want more than libraries: the guest has it read-only over 9p, and in its place folders to write in. */

/** Modules that mount it. */
export const ROOT_MODULES = ['virtio_pci', '9pnet_virtio', '9p'] as const;

const TAG = 'debian';
/** Where the guest has it. */
const AT = '/debian';

/** QEMU's arguments. @param tree of the packages */
export const debianRoot = (tree: string): string[] => [
  ...['-fsdev', `local,id=${TAG},path=${tree.replaceAll(',', ',,')},security_model=none,readonly=on`],
  ...['-device', `virtio-9p-pci,fsdev=${TAG},mount_tag=${TAG}`],
];

/**
 * For the guest's shell: mounts it, with the guest's devices. `/run`, `/tmp` and `/dev/shm` can be written. Then \`debian PROGRAM ...\` runs a
 * program in it, the guest's busybox among them, whose \`env\`, \`sh\` and so on scripts there need.
 */
export const MOUNT_ROOT = `
mkdir -p ${AT} /dev/pts /dev/shm
mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=262144 ${TAG} ${AT} || exit
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
for folder in dev proc sys; do mount --bind /$folder ${AT}/$folder; done
for folder in dev/pts dev/shm; do mount --bind /$folder ${AT}/$folder; done
for folder in run tmp; do mount -t tmpfs $folder ${AT}/$folder; done
cp /bin/busybox ${AT}/tmp/busybox
debian() { chroot ${AT} "$@"; }
`;

/** The same for a running udev that knows the input devices and the graphics card: libinput asks it what is a mouse. */
export const START_UDEV = `
# It would not work in a chroot unless it is told to.
export SYSTEMD_IGNORE_CHROOT=1
debian /lib/systemd/systemd-udevd --daemon 2>/dev/null || exit
debian /bin/udevadm trigger --subsystem-match=input --subsystem-match=drm || exit
debian /bin/udevadm settle --timeout=30 || exit
`;
