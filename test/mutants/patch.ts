/** How a mutant changes a simulation: it wraps methods of one backend and of everything that this backend makes. */
import type { SimBackend, SimHandle, SimMachine } from '../../src/backends/sim/index.js';
import { type ErrorCode, MptError } from '../../src/core/errors.js';
import type { BackendMethods, HandleMethods, RequestMethods } from './methods.js';

/** Damages a backend that was just opened. */
export type Patch = (backend: SimBackend) => void;

/** Puts `make(original)` in the method's place; private state stays reachable through the original. */
function wrap<Methods extends object, Name extends keyof Methods>(
  object: object,
  name: Name,
  make: (original: Methods[Name]) => Methods[Name],
): void {
  const methods = object as Methods;
  const original = methods[name] as unknown as (...args: unknown[]) => unknown;
  define(object, name, { value: make(original.bind(object) as unknown as Methods[Name]) });
}

const define = (object: object, name: PropertyKey, descriptor: PropertyDescriptor): void =>
  void Object.defineProperty(object, name, { configurable: true, ...descriptor });

/** Several changes at once. */
export const all =
  (...patches: readonly Patch[]): Patch =>
  (backend) => {
    for (const patch of patches) patch(backend);
  };

/** Wraps a method of the backend. `make` runs once for each backend: what it declares is the backend's own. */
export const onBackend =
  <Name extends keyof BackendMethods>(
    name: Name,
    make: (original: BackendMethods[Name], backend: SimBackend) => BackendMethods[Name],
  ): Patch =>
  (backend) =>
    wrap<BackendMethods, Name>(backend, name, (original) => make(original, backend));

/** Replaces a property of the backend, such as its capabilities. */
export const backendProperty =
  (name: string, get: (backend: SimBackend, original: unknown) => unknown): Patch =>
  (backend) => {
    const original = Reflect.get(backend, name);
    define(backend, name, { get: () => get(backend, original) });
  };

/** Does something to each handle before anyone has it. */
export const eachHandle = (change: (handle: SimHandle, backend: SimBackend) => void): Patch =>
  onBackend('doAttachVgpu', (original, backend) => (vgpu) => {
    const handle = original(vgpu);
    change(handle as SimHandle, backend);
    return handle;
  });

/** Wraps a method of each handle. `make` runs once for each handle. */
export const onHandle = <Name extends keyof HandleMethods>(
  name: Name,
  make: (original: HandleMethods[Name], handle: SimHandle, backend: SimBackend) => HandleMethods[Name],
): Patch => eachHandle((handle, backend) => wrap<HandleMethods, Name>(handle, name, (original) => make(original, handle, backend)));

/** Replaces a property of each handle. */
export const handleProperty = (name: string, get: (handle: SimHandle, original: () => unknown) => unknown): Patch =>
  eachHandle((handle) => {
    const prototype = Object.getPrototypeOf(handle) as object;
    const own = Object.getOwnPropertyDescriptor(handle, name)?.value as unknown;
    const original = (): unknown => (own === undefined ? Reflect.get(prototype, name, handle) : own);
    define(handle, name, { get: () => get(handle, original) });
  });

/** Does something to each VM before anyone has it. */
export const eachMachine = (change: (machine: SimMachine, backend: SimBackend) => void): Patch =>
  onBackend('doCreateMachine', (original, backend) => (spec) => {
    const machine = original(spec) as SimMachine;
    change(machine, backend);
    return machine;
  });

/** Wraps a method of each VM's requests. */
export const onRequests = <Name extends keyof RequestMethods>(
  name: Name,
  make: (original: RequestMethods[Name], machine: SimMachine, backend: SimBackend) => RequestMethods[Name],
): Patch =>
  eachMachine((machine, backend) => wrap<RequestMethods, Name>(machine.requests, name, (original) => make(original, machine, backend)));

/** The VM of a handle. */
export const vmOf = (handle: SimHandle): SimMachine => (handle.backend as SimBackend).vm(handle.vgpu.vmId);

type Method = (...args: unknown[]) => unknown;
const onError =
  (react: (error: MptError, args: readonly unknown[]) => unknown) =>
  (original: unknown): never =>
    ((...args: unknown[]) => {
      try {
        return (original as Method)(...args);
      } catch (error) {
        if (MptError.is(error)) return react(error, args);
        throw error;
      }
    }) as never;

/** Answers as if all were well where an error of this code was due. */
const silenced = (code: ErrorCode, value?: unknown): ((original: unknown) => never) =>
  onError((error) => {
    if (error.code !== code) throw error;
    return value;
  });

/** Throws another code than is due. */
const recoded = (from: ErrorCode, to: ErrorCode): ((original: unknown) => never) =>
  onError((error) => {
    if (error.code !== from) throw error;
    const { op, backend, address, size, limit } = error;
    throw new MptError(
      to,
      error.text,
      Object.fromEntries(Object.entries({ op, backend, address, size, limit }).filter(([, v]) => v !== undefined)),
    );
  });

/** Throws the error without one of its fields. */
const stripped = (code: ErrorCode, field: 'address' | 'size' | 'limit'): ((original: unknown) => never) =>
  onError((error) => {
    if (error.code === code) define(error, field, { value: undefined });
    throw error;
  });

export const silentHandle = (name: keyof HandleMethods, code: ErrorCode, value?: unknown): Patch => onHandle(name, silenced(code, value));
export const silentBackend = (name: keyof BackendMethods, code: ErrorCode, value?: unknown): Patch =>
  onBackend(name, silenced(code, value));
export const recodeHandle = (name: keyof HandleMethods, from: ErrorCode, to: ErrorCode): Patch => onHandle(name, recoded(from, to));
export const recodeBackend = (name: keyof BackendMethods, from: ErrorCode, to: ErrorCode): Patch => onBackend(name, recoded(from, to));
export const vagueHandle = (name: keyof HandleMethods, code: ErrorCode, field: 'address' | 'size' | 'limit'): Patch =>
  onHandle(name, stripped(code, field));
export const vagueBackend = (name: keyof BackendMethods, code: ErrorCode, field: 'address' | 'size' | 'limit'): Patch =>
  onBackend(name, stripped(code, field));

/** The declaration says this instead. */
export const declares = (changes: Readonly<Record<string, unknown>>): Patch =>
  backendProperty('capabilities', (_, original) => Object.freeze({ ...(original as object), ...changes }));

/** The method throws this although it should work. */
export const broken = (name: keyof HandleMethods, code: ErrorCode): Patch =>
  onHandle(
    name,
    (_, handle) =>
      ((): never => {
        throw handle.backend.error(code, 'broken', { op: name });
      }) as never,
  );
