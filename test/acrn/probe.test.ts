/** Which device is taken, and what is said when none is: with devices of a few lines, on every machine. */
import t from 'tap';
import { HSM_IOCTL, VHM_IOCTL } from '../../src/backends/acrn/abi.js';
import { acrnModule } from '../../src/backends/acrn/index.js';
import { libcSyscalls } from '../../src/native/libc.js';
import type { Syscalls } from '../../src/native/syscalls.js';
import { refused } from '../core/expect.js';

const [ENOENT, EACCES, ENXIO, EINVAL, ENOTTY] = [2, 13, 6, 22, 25];
const [HSM_FD, VHM_FD, PAGEMAP_FD, SHMEM_FD] = [1001, 1002, 1003, 1004];

interface Machine {
  /** What opening the device answers, if not a descriptor. */
  readonly hsm?: number;
  readonly vhm?: number;
  /** What an HSM says to a request without a VM. */
  readonly clear?: number;
  readonly version?: readonly [major: number, minor: number];
  /** Entry of /proc/self/pagemap. */
  readonly entry?: readonly [low: number, high: number];
  /** What the kernel tells of huge pages in memory files; none: it knows no such thing. */
  readonly shmem?: string;
}

function machine({ hsm = HSM_FD, vhm = VHM_FD, clear = -EINVAL, version = [1, 0], entry = [0x1234, 0x8000_0000], shmem }: Machine) {
  const open = new Set<number>();
  const opened = (fd: number): number => {
    if (fd >= 0) open.add(fd);
    return fd;
  };
  const sys: Syscalls = {
    ...libcSyscalls,
    open: (path, flags) => {
      if (path === '/dev/acrn_hsm') return opened(hsm);
      if (path === '/dev/acrn_vhm' || path === '/dev/other') return opened(vhm);
      if (path === '/proc/self/pagemap') return opened(PAGEMAP_FD);
      if (path.endsWith('/shmem_enabled')) return shmem === undefined ? -ENOENT : opened(SHMEM_FD);
      return libcSyscalls.open(path, flags);
    },
    close: (fd) => (open.delete(fd) ? 0 : libcSyscalls.close(fd)),
    ioctl: (fd, request) => (fd === HSM_FD && request === HSM_IOCTL.CLEAR_VM_IOREQ ? clear : fd === VHM_FD ? 0 : -ENOTTY),
    ioctlBuffer: (fd, request, buffer) => {
      if (fd !== VHM_FD) return -EINVAL;
      if (request === VHM_IOCTL.GET_API_VERSION) new Uint32Array(buffer.buffer).set(version);
      return 0;
    },
    lseek: (fd, offset, whence) => (fd === PAGEMAP_FD ? offset : libcSyscalls.lseek(fd, offset, whence)),
    read: (fd, buffer) => {
      if (fd === SHMEM_FD) return new TextEncoder().encodeInto(shmem ?? '', buffer).written;
      if (fd !== PAGEMAP_FD) return libcSyscalls.read(fd, buffer);
      new Uint32Array(buffer.buffer).set(entry);
      return 8;
    },
  };
  return { module: acrnModule(sys), open };
}

t.test('which device', async (t) => {
  const both = machine({});
  t.match(both.module.probe(), {
    available: true,
    version: 'ACRN HSM',
    capabilities: { pageTrack: 'sync', setPvmmio: true, dom0Ready: true },
  });
  t.match(both.module.probe({ abi: 'vhm' }), { available: true, version: 'ACRN VHM API 1.0' });
  t.match(both.module.probe({ abi: 'vhm', device: '/dev/other' }), { available: true, reason: /^\/dev\/other answers/ });
  t.match(both.module.probe({ pageTrack: 'trap' }), { capabilities: { pageTrack: 'trap' }, reason: /about 120 changes/ });
  t.match(both.module.probe().reason, /no write-protect service/, 'what the level is for');
  t.match(machine({ hsm: -ENOENT }).module.probe(), { available: true, version: 'ACRN VHM API 1.0' }, 'the older one');
  for (const setting of ['[advise] never', 'advise [never]', 'never [deny]'])
    t.match(machine({ shmem: `always within_size ${setting}\n` }).module.probe(), { available: true }, setting);
  t.equal(both.open.size, 0, 'a probe keeps nothing open');
});

t.test('why not', async (t) => {
  const cases: readonly (readonly [Machine, RegExp])[] = [
    [{ hsm: -ENOENT, vhm: -ENOENT }, /acrn_hsm cannot be opened, errno 2 ENOENT; this is no ACRN service VM.*acrn_vhm cannot be opened/],
    [{ hsm: -EACCES, vhm: -ENOENT }, /errno 13 EACCES; run as root/],
    [{ hsm: -ENXIO, vhm: -ENOENT }, /the kernel does not run on ACRN/],
    [{ clear: -ENOTTY, vhm: -ENOENT }, /acrn_hsm is no ACRN HSM, errno 25 ENOTTY/],
    [{ clear: 0, vhm: -ENOENT }, /acrn_hsm is no ACRN HSM/],
    [{ hsm: -ENOENT, version: [0, 0] }, /acrn_vhm speaks VHM API 0.0, not 1.x/],
    [{ hsm: -ENOENT, version: [2, 1] }, /speaks VHM API 2.1/],
    [{ entry: [0, 0x8000_0000] }, /hides frame numbers; run as root/],
    [{ entry: [0x1234, 0] }, /has no page there/],
    [{ shmem: '[always] within_size advise never deny force\n' }, /huge pages.*shmem_enabled is 'always'; set 'never'/],
    [{ shmem: 'always [within_size] advise never deny force\n' }, /is 'within_size'/],
  ];
  for (const [given, reason] of cases) {
    const { module, open } = machine(given);
    const probe = module.probe();
    t.equal(probe.available, false, String(reason));
    t.match(probe.reason, reason);
    t.notMatch(probe.reason, /\n/);
    t.equal(open.size, 0, 'nothing stays open');
  }
  const { module } = machine({ hsm: -ENOENT, vhm: -ENOENT });
  t.match(
    refused(t, 'UNAVAILABLE', () => module.open()),
    { backend: 'acrn', op: 'open' },
  );
});
