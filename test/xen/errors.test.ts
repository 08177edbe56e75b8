/** Bad input and Xen's refusals: typed errors that name call, domain, frame and cure. */
import { spawnSync } from 'node:child_process';
import t from 'tap';
import { XEN_CONST as C } from '../../src/backends/xen/abi.js';
import { XenBackend } from '../../src/backends/xen/backend.js';
import { checkXen, xenFailure } from '../../src/backends/xen/failure.js';
import { Gfn, Gpa, PAGE_SIZE } from '../../src/core/mpt.js';
import { libcSyscalls } from '../../src/native/libc.js';
import { BAR, failure, peek, rig, SCRATCH, skip } from './support.js';

/** Errno table: what is done, the code and the message. Everything crosses to Xen for real. */
t.test('errors that Xen answers', { skip }, (t) => {
  const it = rig();
  const { xen } = it.backend;
  const { vmId: domid } = it.machine;
  const { server } = it.machine.domain;
  const MISSING = 31_000;
  const dirty = new Uint8Array(1024 * 128);
  const rows: readonly (readonly [string, () => unknown, string, RegExp])[] = [
    [
      'dm_op on a missing domain',
      () => checkXen('inject_msi', xen.injectMsi(MISSING, 0xfee0_0000, 0x40), { domid: MISSING }),
      'VM_GONE',
      /inject_msi of domain 31000 failed; errno 3 ESRCH; the domain was destroyed/,
    ],
    [
      'dm_op on dom0',
      () => checkXen('create_ioreq_server', xen.createIoreqServer(0, 0), { domid: 0 }),
      'HYPERVISOR',
      /create_ioreq_server of domain 0 failed; errno 1 EPERM; /,
    ],
    [
      'unknown server',
      () => checkXen('set_ioreq_server_state', xen.setIoreqServerState(domid, 7, true), { domid }),
      'NOT_MAPPED',
      /errno 2 ENOENT; the ioreq server is gone/,
    ],
    [
      'unknown range',
      () => server.unclaim('memory', 1 << 30, (1 << 30) + 1),
      'NOT_MAPPED',
      /unmap_io_range_from_ioreq_server of domain \d+ failed \(at 0x40000000, size 2\); errno 2 ENOENT/,
    ],
    [
      'range twice',
      () => {
        server.claim('memory', BAR, BAR + 1);
        server.claim('memory', BAR, BAR);
      },
      'OVERLAP',
      /map_io_range_to_ioreq_server of domain \d+ failed \(at 0x1000000, size 1\); errno 17 EEXIST/,
    ],
    [
      '257 ranges',
      () => {
        for (let i = 0; i < 300; i++) server.claim('memory', 2 * BAR + i * 16, 2 * BAR + i * 16);
      },
      'LIMIT',
      /errno 12 ENOMEM; an ioreq server holds 256 ranges/,
    ],
    [
      'mem type unclaimed',
      () => checkXen('set_mem_type', xen.setMemType(domid, C.HVMMEM_ioreq_server, 0x10, 1), { domid, gfn: 0x10 }),
      'NOT_RAM',
      /set_mem_type of domain \d+, gfn 0x10, failed; errno 22 EINVAL/,
    ],
    [
      'mem type past the last frame',
      () => {
        it.machine.domain.claimMemType();
        checkXen('set_mem_type', xen.setMemType(domid, C.HVMMEM_ioreq_server, 0xfff_ffff, 1), { domid, gfn: 0xfff_ffff });
      },
      'NOT_RAM',
      /gfn 0xfffffff, failed; errno 22 EINVAL/,
    ],
    [
      'second owner of the type',
      () => {
        const id = checkXen('x', xen.createIoreqServer(domid, 0));
        checkXen('map_mem_type_to_ioreq_server', xen.mapMemType(domid, id, C.HVMMEM_ioreq_server, C.XEN_DMOP_IOREQ_MEM_ACCESS_WRITE), {
          domid,
        });
      },
      'BUSY',
      /errno 16 EBUSY; another device model of the domain tracks pages.*pageTrack sync/,
    ],
    [
      'delivery mode 3',
      () => checkXen('inject_msi', xen.injectMsi(domid, 0xfee0_0000, 0x340), { domid }),
      'BAD_MSI',
      /errno 22 EINVAL; Xen knows no such delivery mode/,
    ],
    ['foreign map of a bad frame', () => peek(it.handle, BAR, 4), 'NOT_RAM', /read_gpa: .*hole \(at 0x1000000/],
    [
      'foreign map of a bad domain',
      () => {
        const errors = new Int32Array(1);
        const at = xen.mapForeign(MISSING, BigUint64Array.of(1n), errors);
        checkXen('foreign_map', at < 0 ? at : (errors[0] ?? 0), { domid: MISSING, gfn: 1 });
      },
      'VM_GONE',
      /foreign_map of domain 31000, gfn 0x1, failed; errno 3 ESRCH/,
    ],
    [
      'mapping without permission',
      () => checkXen('memory_mapping', xen.memoryMapping(domid, 0xd_0000, 0xfebf_0, 1, true), { domid, gfn: 0xd_0000 }),
      'HYPERVISOR',
      /memory_mapping of domain \d+, gfn 0xd0000, failed; errno 1 EPERM; .*iomem_permission/,
    ],
    [
      'dirty window of 1 Mi frames',
      () => checkXen('track_dirty_vram', xen.trackDirtyVram(domid, 0, 1 << 20, dirty), { domid, gfn: 0, size: 1 << 20 }),
      'LIMIT',
      /errno 7 E2BIG; one window has at most 262144 frames/,
    ],
  ];
  for (const [name, run, code, says] of rows) {
    const error = failure(run);
    t.equal(error.code, code, name);
    t.match(error.message, says, name);
  }
  it.close();
  t.end();
});

t.test('a call that is not in the table keeps its errno', (t) => {
  const error = xenFailure('some_op', -5, { domid: 3, gfn: 16 });
  t.equal(error.code, 'HYPERVISOR');
  t.equal(error.message, 'some_op of domain 3, gfn 0x10, failed; errno 5 EIO');
  t.end();
});

t.test('level sync in both its forms', { skip }, (t) => {
  const it = rig({
    xen: { pageTrack: 'sync' },
    ram: [
      { gpa: 0, size: 4 << 20 },
      { gpa: 2 ** 32, size: PAGE_SIZE },
    ],
  });
  it.handle.enablePageTrack(Gfn(SCRATCH / PAGE_SIZE));
  t.equal(it.machine.domain.dirty.mode, 'window');
  it.agent.write(SCRATCH, 4, 1);
  t.equal(it.handle.syncPageTrack(), 1);
  it.agent.write(SCRATCH, 4, 2);
  it.handle.enablePageTrack(Gfn(2 ** 20));
  t.equal(it.machine.domain.dirty.mode, 'whole', 'frames too far apart for one window');
  t.equal(it.handle.syncPageTrack(), 1, 'what was written before the change is not lost');
  it.agent.write(SCRATCH, 4, 3);
  t.equal(it.handle.syncPageTrack(), 1);
  it.handle.disablePageTrack(Gfn(2 ** 20));
  it.handle.disablePageTrack(Gfn(SCRATCH / PAGE_SIZE));
  t.equal(it.machine.domain.dirty.mode, 'off');
  it.close();
  t.end();
});

t.test('by ioctl instead of the libraries', { skip }, (t) => {
  const it = rig({ xen: { calls: 'ioctl' } });
  it.handle.setTrapArea(Gpa(BAR), Gpa(BAR + 0xfff), true);
  it.recorder.answer = { low: 0x5a, high: 0 };
  t.equal(it.agent.read(BAR, 4), 0x5a);
  it.handle.enablePageTrack(Gfn(SCRATCH / PAGE_SIZE));
  it.agent.write(SCRATCH, 4, 6);
  t.equal(it.recorder.of('wp').length, 1);
  t.ok(it.handle.gfnToMfn(Gfn(SCRATCH / PAGE_SIZE)) > 0);
  it.handle.injectMsi(0xfee0_0000, 0x41);
  it.agent.waitInterrupt(0x41, 1);
  it.close();
  t.end();
});

t.test('options', { skip }, (t) => {
  const open = (options: object) => failure(() => new XenBackend(libcSyscalls, options));
  t.match(open({ vcpus: 0 }), { code: 'INVALID_ARGUMENT', limit: 128 });
  t.match(open({ mapPciDevices: ['5.0'] }).message, /'5.0' is no PCI function; write it as in/);
  t.match(open({ mapPciDevices: ['0000:00:1f.7'] }).message, /resource cannot be read; errno 2 ENOENT; name a PCI function of dom0/);
  t.end();
});

t.test('what mpt backends says', { skip }, (t) => {
  const backends = (env: Record<string, string>, uid?: number): { stdout: string } =>
    spawnSync(process.execPath, ['build/src/cli/mpt.js', 'backends'], {
      encoding: 'utf8',
      env: { ...process.env, ...env },
      ...(uid === undefined ? {} : { uid, gid: uid }),
    });
  t.match(backends({}).stdout, /auto +takes xen: first available hypervisor: the control domain of Xen 4\.17/);
  t.match(
    backends({ LD_LIBRARY_PATH: '/nonexistent' }).stdout,
    /libxenctrl\.so\.4\.17, the control library of the running Xen 4\.17, cannot be loaded; install libxenmisc4\.17/,
  );
  t.match(backends({}, 65_534).stdout, /\/dev\/xen\/privcmd cannot be opened, errno 13 EACCES; run as root in dom0/);
  t.end();
});
