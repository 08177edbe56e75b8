/** Bad input and Xen's refusals: typed errors that name call, domain, frame and cure. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { XEN_CONST as C, XENCTRL } from '../../src/backends/xen/abi.js';
import { XenBackend } from '../../src/backends/xen/backend.js';
import { checkXen, xenFailure } from '../../src/backends/xen/failure.js';
import { createDomain, destroyDomain } from '../../src/backends/xen/machine.js';
import { Gfn, Gpa, PAGE_SIZE } from '../../src/core/mpt.js';
import { libcSyscalls } from '../../src/native/libc.js';
import type { XenCalls } from '../../src/native/xen-calls.js';
import { BAR, failure, figures, peek, rig, SCRATCH, skip } from './support.js';

const { MPT_LAB_TREE: tree } = process.env;

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

/** A domain of a kind that the backend does not create, through libxenctrl. @returns its id or minus the errno */
function createBare(calls: XenCalls, flags: number): number {
  const { xen_domctl_createdomain: CREATE } = XENCTRL['4.17'];
  const config = new DataView(new ArrayBuffer(CREATE.size));
  config.setUint32(CREATE.flags, flags, true);
  config.setUint32(CREATE.max_vcpus, 1, true);
  config.setUint32(CREATE.max_evtchn_port, 1023, true);
  config.setInt32(CREATE.max_grant_frames, 4, true);
  config.setInt32(CREATE.max_maptrack_frames, 4, true);
  config.setUint32(CREATE.grant_opts, 1, true);
  return calls.createDomain(new Uint8Array(config.buffer));
}

t.test('a PV domain is refused, and left alone', { skip }, (t) => {
  const backend = new XenBackend(libcSyscalls);
  const domid = checkXen('createdomain', createBare(backend.xen, 0));
  const error = failure(() => backend.openMachine(domid));
  t.equal(error.code, 'UNSUPPORTED');
  t.equal(
    error.message,
    `[xen] open_machine: domain ${domid} is a PV guest, which has no emulated devices; set type='hvm' or type='pvh' in its configuration`,
  );
  // What the check spares the caller: Xen's own answer to the first call.
  t.match(xenFailure('create_ioreq_server', backend.xen.createIoreqServer(domid, 0), { domid }), {
    code: 'HYPERVISOR',
    message: new RegExp(`create_ioreq_server of domain ${domid} failed; errno 22 EINVAL; the domain is not an HVM or PVH guest`),
  });
  t.ok(figures(backend.xen).domains.includes(domid));
  destroyDomain(backend, domid);
  backend.close();
  t.end();
});

t.test('a domain without HAP', { skip }, (t) => {
  const { flags: FLAGS } = XENCTRL['4.17'].xc_domaininfo_t;
  let hidden = -1;
  const backend = new XenBackend(libcSyscalls, {}, (calls) => ({
    ...calls,
    domainInfo: (first, info) => {
      const found = calls.domainInfo(first, info);
      const view = new DataView(info.buffer, info.byteOffset);
      if (found === hidden) view.setUint32(FLAGS, view.getUint32(FLAGS, true) & ~C.XEN_DOMINF_hap, true);
      return found;
    },
  }));
  // Debian's Xen is built without shadow paging: it has no such domain, and says so.
  const refused = createBare(backend.xen, C.XEN_DOMCTL_CDF_hvm);
  t.match(xenFailure('createdomain', refused), {
    code: 'UNSUPPORTED',
    message:
      'createdomain failed; errno 95 EOPNOTSUPP; Xen runs without hardware virtualization or without HAP: enable SVM/VT-x and nested paging',
  });
  // So what Xen says of a domain with HAP is changed.
  const domid = createDomain(backend, [{ gpa: 0, size: PAGE_SIZE }], 'pvh', 1);
  hidden = domid;
  const error = failure(() => backend.openMachine(domid));
  t.equal(error.code, 'UNSUPPORTED');
  t.equal(
    error.message,
    `[xen] open_machine: domain ${domid} has no hardware-assisted paging, without which pages cannot be tracked; set hap=1 in its configuration`,
  );
  destroyDomain(backend, domid);
  backend.close();
  t.end();
});

t.test('libraries that are not what their names say', { skip: skip || (tree === undefined && 'needs the tree of the lab') }, (t) => {
  const libraries = join(tree as string, 'usr/lib/x86_64-linux-gnu');
  const control = join(libraries, 'libxenctrl.so.4.17');
  const folder = mkdtempSync(join(tmpdir(), 'mpt-lib-'));
  const compile = (name: string, source: string, ...flags: string[]): string => {
    const file = join(folder, `${name}.c`);
    writeFileSync(file, source);
    const library = join(folder, `${name}.so`);
    const args = ['-shared', '-fPIC', '-o', library, file, `-I${join(tree as string, 'usr/include')}`, `-L${libraries}`, ...flags];
    const { status, stderr } = spawnSync('gcc', args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
    return library;
  };
  /** All of Xen's libraries, but for some. */
  const folderWith = (name: string, changes: Readonly<Record<string, string | null>>): string => {
    const path = join(folder, name);
    mkdirSync(path);
    for (const entry of readdirSync(libraries)) if (!(entry in changes)) symlinkSync(join(libraries, entry), join(path, entry));
    for (const [entry, file] of Object.entries(changes)) if (file !== null) copyFileSync(file, join(path, entry));
    return path;
  };
  const program = `
    import { xen } from './build/src/backends/xen/index.js';
    const { available, reason } = xen.probe();
    let error = {};
    try { xen.open(); } catch (thrown) { error = { name: thrown.name, code: thrown.code, message: thrown.message }; }
    process.stdout.write(JSON.stringify({ available, reason, error }));
  `;
  const look = (path: string): { available: boolean; reason: string; error: Record<string, string> } => {
    const env = { ...process.env, LD_LIBRARY_PATH: path };
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8', env });
    if (stdout === '') throw new Error(stderr);
    return JSON.parse(stdout);
  };

  const empty = compile('empty', 'int nothing;');
  // Every function of the real one. Two do something: it opens, and asks Xen with the next version of the interface.
  const functions = spawnSync('nm', ['-D', '--defined-only', control], { encoding: 'utf8' })
    .stdout.split('\n')
    .map((line) => /^[0-9a-f]+ T (xc_\w+)/.exec(line)?.[1])
    .filter((name) => name !== undefined && name !== 'xc_interface_open' && name !== 'xc_domain_getinfolist');
  t.ok(functions.length > 100, `${functions.length} functions`);
  const newer = compile(
    'newer',
    `#define __XEN_TOOLS__ 1
    #include <stdint.h>
    #include <stddef.h>
    #include <xen/xen.h>
    #include <xen/sysctl.h>
    #include <xencall.h>
    static xencall_handle *calls;
    void *xc_interface_open(void *logger, void *builder, unsigned flags) { return calls = xencall_open(NULL, 0); }
    int xc_domain_getinfolist(void *handle, uint32_t first, unsigned max, void *info) {
      struct xen_sysctl *sysctl = xencall_alloc_buffer(calls, sizeof *sysctl);
      sysctl->cmd = XEN_SYSCTL_getdomaininfolist;
      sysctl->interface_version = XEN_SYSCTL_INTERFACE_VERSION + 1;
      return xencall1(calls, __HYPERVISOR_sysctl, (uintptr_t)sysctl);
    }
    ${functions.map((name) => `int ${name}(void) { return -1; }`).join('\n')}`,
    '-lxencall',
  );
  const rows: readonly (readonly [string, Readonly<Record<string, string | null>>, RegExp])[] = [
    [
      'libxenctrl of another version only',
      { 'libxenctrl.so.4.17': null, 'libxenctrl.so': null, 'libxenctrl.so.4.18': control },
      /libxenctrl\.so\.4\.17, the control library of the running Xen 4\.17, cannot be loaded \(libxenctrl\.so\.4\.18 does not match the hypervisor\): .*; install libxenmisc4\.17/,
    ],
    [
      'libxenctrl without its functions',
      { 'libxenctrl.so.4.17': empty },
      /libxenctrl\.so\.4\.17 lacks the function xc_\w+: the file is not that library, or is damaged; install libxenmisc4\.17 again/,
    ],
    [
      'another library under the name of one that libxenctrl needs',
      { 'libxendevicemodel.so.1': join(libraries, 'libxencall.so.1') },
      /libxenctrl\.so\.4\.17, the control library .* cannot be loaded: .*xendevicemodel.*; install libxenmisc4\.17/,
    ],
    [
      'libxenctrl that speaks another interface',
      { 'libxenctrl.so.4.17': newer },
      /libxenctrl\.so\.4\.17 speaks another control interface than the running Xen 4\.17.* errno 13 EACCES; install the libxenmisc4\.17 that belongs/,
    ],
  ];
  for (const [name, changes, says] of rows) {
    const { available, reason, error } = look(folderWith(`${rows.findIndex(([other]) => other === name)}`, changes));
    t.equal(available, false, name);
    t.match(reason, says, `${name}: probe`);
    t.match(error, { name: 'MptError', code: 'UNAVAILABLE', message: says }, `${name}: open`);
    t.match(error['message'], /^\[xen\] open: /, name);
  }
  rmSync(folder, { recursive: true });
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
    /libxenctrl\.so\.4\.17, the control library of the running Xen 4\.17, cannot be loaded: .*No such file or directory; install libxenmisc4\.17/,
  );
  t.match(backends({}, 65_534).stdout, /\/dev\/xen\/privcmd cannot be opened, errno 13 EACCES; run as root in dom0/);
  t.end();
});
