/**
 * Xen's own libraries through koffi: loaded by soname, which the dynamic linker finds. The stable ones have a version of
 * their own; libxenctrl carries the hypervisor's version in its name, because its structures change with it.
 */
import koffi from 'koffi';
import { MptError } from '../core/errors.js';
import type { XenControl, XenDeviceModel, XenEventChannels, XenForeignMemory, XenHypercalls } from './xen-calls.js';

type KoffiLibrary = ReturnType<typeof koffi.load>;
/** Handles and addresses of the libraries; 0 is null. Pointers of a process are below 2^47. */
type Pointer = number;

/** Library by soname, and Debian's package that has it. */
export const XEN_LIBRARIES = {
  deviceModel: { soname: 'libxendevicemodel.so.1', debian: 'libxendevicemodel1' },
  foreignMemory: { soname: 'libxenforeignmemory.so.1', debian: 'libxenforeignmemory1' },
  eventChannels: { soname: 'libxenevtchn.so.1', debian: 'libxenevtchn1' },
  hypercalls: { soname: 'libxencall.so.1', debian: 'libxencall1' },
} as const;
export type XenLibraryName = keyof typeof XEN_LIBRARIES;

export const xenctrlSoname = (version: string): string => `libxenctrl.so.${version}`;
export const xenctrlPackage = (version: string): string => `libxenmisc${version}`;

const ENOENT = 2;
const EIO = 5;
const PROT_READ_WRITE = 3;
const BYTES_A_PAGE = 4096;
const PCI_RANGE = 2;
const MEMORY_RANGE = 1;

/**
 * Libraries stay loaded: koffi unloads one whose object is collected, and the logger below, which every library keeps a
 * pointer to, would then point to code that is no more.
 */
const loaded = new Map<string, KoffiLibrary>();

/** A library that was found by its soname. */
class Library {
  readonly #library: KoffiLibrary;
  readonly #soname: string;
  readonly #debian: string;

  constructor(library: KoffiLibrary, soname: string, debian: string) {
    this.#library = library;
    this.#soname = soname;
    this.#debian = debian;
  }

  /** @throws MptError UNAVAILABLE when the library lacks the function: it is not the one that its name says */
  func(prototype: string): ReturnType<KoffiLibrary['func']> {
    try {
      return this.#library.func(prototype);
    } catch (cause) {
      const name = /(\w+)\(/.exec(prototype)?.[1] ?? prototype;
      throw new MptError('UNAVAILABLE', `${this.#soname} lacks the function ${name}: the file is not that library, or is damaged`, {
        hint: `install ${this.#debian} again, or look for another ${this.#soname} in LD_LIBRARY_PATH`,
        cause,
      });
    }
  }
}

/** @param debian the package that has it */
function load(soname: string, debian: string): Library | undefined {
  try {
    const library = loaded.get(soname) ?? koffi.load(soname);
    loaded.set(soname, library);
    return new Library(library, soname, debian);
  } catch {
    return undefined;
  }
}

/**
 * Why the dynamic linker does not load the library, in its words; undefined when it does. The library does not stay loaded: one of
 * another version must not stand in for the right one later.
 */
export function loadProblem(soname: string): string | undefined {
  try {
    if (!loaded.has(soname)) koffi.load(soname).unload();
    return undefined;
  } catch (error) {
    return String((error as Error).message).replace(/^Failed to load shared library: /, '');
  }
}

/** Failed calls return a negative number and set errno, which is read in the very next expression. */
const failed = (result: number): number => (result < 0 ? -(koffi.errno() || EIO) : result);

/** Address of a returned pointer; null is minus the errno. */
const addressOf = (pointer: Pointer): number => (pointer === 0 ? -(koffi.errno() || EIO) : pointer);

/** A logger that says nothing: libraries print each failure to stderr otherwise, and failures are told by MptError. */
function silentLogger(): Pointer {
  const toollog = load('libxentoollog.so.1', 'libxentoollog1');
  if (toollog === undefined) return 0;
  const file = koffi.load('libc.so.6').func('uintptr_t fopen(const char *path, const char *mode)')('/dev/null', 'w') as Pointer;
  return file === 0 ? 0 : toollog.func('uintptr_t xtl_createlogger_stdiostream(uintptr_t file, int level, unsigned int flags)')(file, 0, 0);
}

let logger: Pointer | undefined;
const sharedLogger = (): Pointer => {
  logger ??= silentLogger();
  return logger;
};

export function loadDeviceModel(rawRanges: Pick<XenDeviceModel, 'mapIoRange' | 'unmapIoRange'>): XenDeviceModel | undefined {
  const lib = load(XEN_LIBRARIES.deviceModel.soname, XEN_LIBRARIES.deviceModel.debian);
  if (lib === undefined) return undefined;
  const prefix = 'xendevicemodel_';
  const f = (name: string, args: string) => lib.func(`int ${prefix}${name}(uintptr_t h, uint16_t domid${args === '' ? '' : `, ${args}`})`);
  const create = f('create_ioreq_server', 'int bufioreq, void *id');
  const info = f('get_ioreq_server_info', 'uint16_t id, void *ioreq_gfn, void *bufioreq_gfn, void *port');
  const mapRange = f('map_io_range_to_ioreq_server', 'uint16_t id, int is_mmio, uint64_t start, uint64_t end');
  const unmapRange = f('unmap_io_range_from_ioreq_server', 'uint16_t id, int is_mmio, uint64_t start, uint64_t end');
  const PCI = 'uint16_t id, uint16_t segment, uint8_t bus, uint8_t device, uint8_t fn';
  const mapPci = f('map_pcidev_to_ioreq_server', PCI);
  const unmapPci = f('unmap_pcidev_from_ioreq_server', PCI);
  const setState = f('set_ioreq_server_state', 'uint16_t id, int enabled');
  const destroy = f('destroy_ioreq_server', 'uint16_t id');
  const mapType = f('map_mem_type_to_ioreq_server', 'uint16_t id, uint16_t type, uint32_t flags');
  const setType = f('set_mem_type', 'int type, uint64_t gfn, uint32_t nr');
  const trackDirty = f('track_dirty_vram', 'uint64_t gfn, uint32_t nr, void *bitmap');
  const msi = f('inject_msi', 'uint64_t address, uint32_t data');
  const close = lib.func(`int ${prefix}close(uintptr_t h)`);
  const id = new Uint16Array(1);
  const port = new Uint32Array(1);
  const handle = lib.func(`uintptr_t ${prefix}open(uintptr_t logger, unsigned int flags)`)(sharedLogger(), 0) as Pointer;
  if (handle === 0) return undefined;
  return {
    createIoreqServer: (domid, bufioreq) => {
      const result = failed(create(handle, domid, bufioreq, id));
      return result < 0 ? result : (id[0] as number);
    },
    // No frames are asked for: asking would make Xen put the pages into the guest's map, and map_resource answers EPERM.
    ioreqServerPort: (domid, server) => {
      const result = failed(info(handle, domid, server, null, null, port));
      return result < 0 ? result : (port[0] as number);
    },
    mapIoRange: (domid, server, type, start, end) => {
      if (type !== PCI_RANGE) return failed(mapRange(handle, domid, server, type === MEMORY_RANGE ? 1 : 0, start, end));
      // The library claims one function a call; a run of functions is one dm_op all the same.
      if (start !== end) return rawRanges.mapIoRange(domid, server, type, start, end);
      return failed(mapPci(handle, domid, server, start >>> 16, (start >> 8) & 0xff, (start >> 3) & 0x1f, start & 7));
    },
    unmapIoRange: (domid, server, type, start, end) => {
      if (type !== PCI_RANGE) return failed(unmapRange(handle, domid, server, type === MEMORY_RANGE ? 1 : 0, start, end));
      if (start !== end) return rawRanges.unmapIoRange(domid, server, type, start, end);
      return failed(unmapPci(handle, domid, server, start >>> 16, (start >> 8) & 0xff, (start >> 3) & 0x1f, start & 7));
    },
    setIoreqServerState: (domid, server, enabled) => failed(setState(handle, domid, server, enabled ? 1 : 0)),
    destroyIoreqServer: (domid, server) => failed(destroy(handle, domid, server)),
    mapMemType: (domid, server, type, flags) => failed(mapType(handle, domid, server, type, flags)),
    setMemType: (domid, type, gfn, nr) => {
      const result: number = setType(handle, domid, type, gfn, nr);
      return result < 0 ? -koffi.errno() : result;
    },
    trackDirtyVram: (domid, gfn, nr, bitmap) => failed(trackDirty(handle, domid, gfn, nr, bitmap)),
    injectMsi: (domid, address, data) => {
      const result: number = msi(handle, domid, address, data);
      return result < 0 ? -koffi.errno() : result;
    },
    closeDeviceModel: () => void close(handle),
  };
}

export function loadForeignMemory(): XenForeignMemory | undefined {
  const lib = load(XEN_LIBRARIES.foreignMemory.soname, XEN_LIBRARIES.foreignMemory.debian);
  if (lib === undefined) return undefined;
  const prefix = 'xenforeignmemory_';
  const map = lib.func(`uintptr_t ${prefix}map(uintptr_t h, uint32_t domid, int prot, size_t pages, void *gfns, void *errors)`);
  const unmap = lib.func(`int ${prefix}unmap(uintptr_t h, uintptr_t address, size_t pages)`);
  const mapResource = lib.func(
    `uintptr_t ${prefix}map_resource(uintptr_t h, uint16_t domid, unsigned int type, unsigned int id, unsigned long frame, unsigned long frames, void *address, int prot, int flags)`,
  );
  const unmapResource = lib.func(`int ${prefix}unmap_resource(uintptr_t h, uintptr_t resource)`);
  const close = lib.func(`int ${prefix}close(uintptr_t h)`);
  const address = new BigUint64Array(1);
  /** The library's record of each mapped resource, by address. */
  const resources = new Map<number, Pointer>();
  const handle = lib.func(`uintptr_t ${prefix}open(uintptr_t logger, unsigned int flags)`)(sharedLogger(), 0) as Pointer;
  if (handle === 0) return undefined;
  return {
    mapForeign: (domid, gfns, errors) => addressOf(map(handle, domid, PROT_READ_WRITE, gfns.length, gfns, errors)),
    unmapForeign: (at, pages) => failed(unmap(handle, at, pages)),
    mapResource: (domid, type, id, frame, frames) => {
      address[0] = 0n;
      const resource = mapResource(handle, domid, type, id, frame, frames, address, PROT_READ_WRITE, 0) as Pointer;
      if (resource === 0) return -(koffi.errno() || EIO);
      const at = Number(address[0]);
      resources.set(at, resource);
      return at;
    },
    unmapResource: (at) => {
      const resource = resources.get(at);
      if (resource === undefined) return -ENOENT;
      resources.delete(at);
      return failed(unmapResource(handle, resource));
    },
    closeForeignMemory: () => void close(handle),
  };
}

/** @returns a function that opens a handle with ports of its own */
export function loadEventChannels(): (() => XenEventChannels | number) | undefined {
  const lib = load(XEN_LIBRARIES.eventChannels.soname, XEN_LIBRARIES.eventChannels.debian);
  if (lib === undefined) return undefined;
  const prefix = 'xenevtchn_';
  const open = lib.func(`uintptr_t ${prefix}open(uintptr_t logger, unsigned int flags)`);
  const fd = lib.func(`int ${prefix}fd(uintptr_t h)`);
  const bind = lib.func(`int ${prefix}bind_interdomain(uintptr_t h, uint32_t domid, uint32_t port)`);
  const unbind = lib.func(`int ${prefix}unbind(uintptr_t h, uint32_t port)`);
  const notify = lib.func(`int ${prefix}notify(uintptr_t h, uint32_t port)`);
  const close = lib.func(`int ${prefix}close(uintptr_t h)`);
  return () => {
    const handle = open(sharedLogger(), 0) as Pointer;
    if (handle === 0) return -(koffi.errno() || EIO);
    return {
      fd: fd(handle),
      bindInterdomain: (domid, remote) => failed(bind(handle, domid, remote)),
      unbind: (port) => failed(unbind(handle, port)),
      notify: (port) => {
        const result: number = notify(handle, port);
        return result < 0 ? -koffi.errno() : result;
      },
      close: () => void close(handle),
    };
  };
}

const GRANT_TABLE_OP = 20;

export function loadHypercalls(): XenHypercalls | undefined {
  const lib = load(XEN_LIBRARIES.hypercalls.soname, XEN_LIBRARIES.hypercalls.debian);
  if (lib === undefined) return undefined;
  const handle = lib.func('uintptr_t xencall_open(uintptr_t logger, unsigned int flags)')(sharedLogger(), 0) as Pointer;
  if (handle === 0) return undefined;
  const call3 = lib.func('int xencall3(uintptr_t h, unsigned int op, uint64_t a, uintptr_t b, uint64_t c)');
  const close = lib.func('int xencall_close(uintptr_t h)');
  const buffer = lib.func('uintptr_t xencall_alloc_buffer_pages(uintptr_t h, size_t pages)')(handle, 1) as Pointer;
  if (buffer === 0) {
    close(handle);
    return undefined;
  }
  const free = lib.func('void xencall_free_buffer_pages(uintptr_t h, uintptr_t p, size_t pages)');
  const bytes = new Uint8Array(koffi.view(buffer, BYTES_A_PAGE) as ArrayBuffer);
  return {
    grantTableOp: (op, argument) => {
      bytes.set(argument);
      const result = failed(call3(handle, GRANT_TABLE_OP, op, buffer, 1));
      argument.set(bytes.subarray(0, argument.length));
      return result;
    },
    closeHypercalls: () => {
      free(handle, buffer, 1);
      close(handle);
    },
  };
}

/** struct xc_hypercall_buffer of xenctrl.h: `{ hbuf, param_shadow, dir, ubuf, sz }`, 40 bytes. */
const HYPERCALL_BUFFER_SIZE = 40;
const NO_COPY_MODE = 0;

export function loadControl(version: string): XenControl | undefined {
  const lib = load(xenctrlSoname(version), xenctrlPackage(version));
  if (lib === undefined) return undefined;
  const f = (name: string, args: string) => lib.func(`int xc_${name}(uintptr_t h, ${args})`);
  const domain = (name: string, args = '') => f(name, `uint32_t domid${args === '' ? '' : `, ${args}`}`);
  const create = f('domain_create', 'void *domid, void *config');
  const destroy = domain('domain_destroy');
  const maxVcpus = domain('domain_max_vcpus', 'unsigned int count');
  const shadow = domain('shadow_control', 'unsigned int op, void *mb, unsigned int mode');
  const setMaxMem = domain('domain_setmaxmem', 'uint64_t kib');
  const populate = domain('domain_populate_physmap_exact', 'unsigned long nr, unsigned int order, unsigned int flags, void *gfns');
  const decrease = domain('domain_decrease_reservation_exact', 'unsigned long nr, unsigned int order, void *gfns');
  const getContext = domain('domain_hvm_getcontext', 'void *context, uint32_t size');
  const setContext = domain('domain_hvm_setcontext', 'void *context, uint32_t size');
  const trigger = domain('domain_send_trigger', 'uint32_t trigger, uint32_t vcpu');
  const pause = domain('domain_pause');
  const unpause = domain('domain_unpause');
  const infoList = f('domain_getinfolist', 'uint32_t first, unsigned int max, void *info');
  const maximumGfn = domain('domain_maximum_gpfn', 'void *gfn');
  const pageTypes = domain('get_pfn_type_batch', 'unsigned int nr, void *gfns');
  const iomem = domain('domain_iomem_permission', 'unsigned long mfn, unsigned long nr, uint8_t allow');
  const mapping = domain('domain_memory_mapping', 'unsigned long gfn, unsigned long mfn, unsigned long nr, uint32_t add');
  const allocPages = lib.func('uintptr_t xc__hypercall_buffer_alloc_pages(uintptr_t h, void *buffer, int pages)');
  const freePages = lib.func('void xc__hypercall_buffer_free_pages(uintptr_t h, void *buffer, int pages)');
  const logDirty = lib.func(
    'int64_t xc_logdirty_control(uintptr_t h, uint32_t domid, unsigned int op, void *bitmap, unsigned long pages, unsigned int mode, void *stats)',
  );
  const physinfo = f('physinfo', 'void *info');
  const close = lib.func('int xc_interface_close(uintptr_t h)');
  const word = new Uint32Array(1);
  const gfn = new BigUint64Array(1);
  const SET_ALLOCATION = 31;
  const ESRCH = 3;
  const handle = lib.func('uintptr_t xc_interface_open(uintptr_t logger, uintptr_t dombuild, unsigned int flags)')(
    sharedLogger(),
    sharedLogger(),
    0,
  ) as Pointer;
  if (handle === 0) return undefined;
  return {
    createDomain: (config) => {
      // The id to use, or 0 for any; then the id that it became.
      word[0] = 0;
      const result = failed(create(handle, word, config));
      return result < 0 ? result : (word[0] as number);
    },
    destroyDomain: (domid) => failed(destroy(handle, domid)),
    maxVcpus: (domid, count) => failed(maxVcpus(handle, domid, count)),
    setPagingAllocation: (domid, mib) => {
      word[0] = mib;
      return failed(shadow(handle, domid, SET_ALLOCATION, word, 0));
    },
    setMaxMem: (domid, kib) => failed(setMaxMem(handle, domid, kib)),
    populate: (domid, gfns, order) => failed(populate(handle, domid, gfns.length, order, 0, gfns)),
    decreaseReservation: (domid, gfns) => failed(decrease(handle, domid, gfns.length, 0, gfns)),
    getHvmContext: (domid, context) => failed(getContext(handle, domid, context, context?.length ?? 0)),
    setHvmContext: (domid, context) => failed(setContext(handle, domid, context, context.length)),
    sendTrigger: (domid, kind, vcpu) => failed(trigger(handle, domid, kind, vcpu)),
    pause: (domid) => failed(pause(handle, domid)),
    unpause: (domid) => failed(unpause(handle, domid)),
    // The structure begins with the id of the domain that was found.
    domainInfo: (first, info) => {
      const count = failed(infoList(handle, first, 1, info));
      if (count < 0) return count;
      return count === 1 ? (info[0] as number) | ((info[1] as number) << 8) : -ESRCH;
    },
    maximumGfn: (domid) => {
      const result = failed(maximumGfn(handle, domid, gfn));
      return result < 0 ? result : Number(gfn[0]);
    },
    pageTypes: (domid, gfns) => failed(pageTypes(handle, domid, gfns.length, gfns)),
    iomemPermission: (domid, mfn, nr, allow) => failed(iomem(handle, domid, mfn, nr, allow ? 1 : 0)),
    memoryMapping: (domid, at, mfn, nr, add) => failed(mapping(handle, domid, at, mfn, nr, add ? 1 : 0)),
    logDirty: (domid, op, bitmap, pages) => {
      const stats = new Uint8Array(8);
      // The description stays in one place: the library keeps its address during the call.
      const description = new Uint8Array(HYPERCALL_BUFFER_SIZE);
      if (bitmap === null) return failed(Number(logDirty(handle, domid, op, description, 0, NO_COPY_MODE, stats)));
      const count = Math.ceil(bitmap.length / BYTES_A_PAGE);
      const memory = allocPages(handle, description, count) as Pointer;
      if (memory === 0) return -(koffi.errno() || EIO);
      const result = failed(Number(logDirty(handle, domid, op, description, pages, NO_COPY_MODE, stats)));
      if (result >= 0) bitmap.set(new Uint8Array(koffi.view(memory, bitmap.length) as ArrayBuffer));
      freePages(handle, description, count);
      return Math.min(result, 0);
    },
    physinfo: (info) => failed(physinfo(handle, info)),
    closeControl: () => void close(handle),
  };
}

const XENSTORE = { soname: 'libxenstore.so.4', debian: 'libxenstore4' } as const;

/** @returns a function that reads a key of xenstore, or undefined without the library or the daemon */
export function loadXenstore(): ((path: string) => string | undefined) | undefined {
  const lib = load(XENSTORE.soname, XENSTORE.debian);
  if (lib === undefined) return undefined;
  const open = lib.func('uintptr_t xs_open(unsigned long flags)');
  const read = lib.func('uintptr_t xs_read(uintptr_t h, uint32_t transaction, const char *path, void *length)');
  const close = lib.func('void xs_close(uintptr_t h)');
  const free = koffi.load('libc.so.6').func('void free(uintptr_t p)');
  const length = new Uint32Array(1);
  return (path) => {
    const handle = open(0) as Pointer;
    if (handle === 0) return undefined;
    try {
      const value = read(handle, 0, path, length) as Pointer;
      if (value === 0) return undefined;
      const text = length[0] === 0 ? '' : new TextDecoder().decode(new Uint8Array(koffi.view(value, length[0] as number) as ArrayBuffer));
      free(value);
      return text;
    } finally {
      close(handle);
    }
  };
}
