/** The registry of backends and the choice between them. */
import { MptError } from '../core/errors.js';
import { nearestName } from '../core/nearest-name.js';
import { acrn } from './acrn/index.js';
import { kvm } from './kvm/index.js';
import type { BackendModule, ProbeResult } from './module.js';
import { sim } from './sim/index.js';
import { vfioUser } from './vfio-user/index.js';
import { xen } from './xen/index.js';

export type { BackendModule, OptionsSchema, ProbeResult } from './module.js';

/**
 * Every backend, in the order in which `auto` tries the hypervisors; simulations stand last. Xen and ACRN come before KVM: in a
 * control domain or service VM they own the machine, and a /dev/kvm there can only be a nested one. Both at once cannot be.
 */
export const BACKENDS: readonly BackendModule[] = [
  xen as BackendModule,
  acrn as BackendModule,
  kvm as BackendModule,
  vfioUser as BackendModule,
  sim as BackendModule,
];

export const backendNames = (): string[] => BACKENDS.map((backend) => backend.name);

/** @throws MptError UNKNOWN_BACKEND with the valid names and the nearest one */
export function findBackend(name: string, backends: readonly BackendModule[] = BACKENDS): BackendModule {
  const backend = backends.find((candidate) => candidate.name === name);
  if (backend !== undefined) return backend;
  const names = backends.map((candidate) => candidate.name);
  const nearest = nearestName(name, names);
  throw new MptError('UNKNOWN_BACKEND', `no backend is called '${name}'`, {
    op: 'select_backend',
    hint: `${nearest === undefined ? '' : `did you mean ${nearest}? `}valid are auto, ${names.join(', ')}`,
  });
}

export interface Selection {
  readonly backend: BackendModule;
  readonly probe: ProbeResult;
  /** Why this one, in one clause. */
  readonly reason: string;
}

export interface SelectOptions {
  /** A backend's name, or `auto`. */
  readonly prefer: string;
  /** What `auto` may take when no hypervisor fits. Never implied. */
  readonly fallback?: string;
  /** Options for the probe and for opening, given to a backend named by `prefer`. */
  readonly options?: Record<string, unknown>;
  /** The candidates; for tests. */
  readonly backends?: readonly BackendModule[];
}

/**
 * Chooses a backend by probing. A named one wins and fails with its own reason; `auto` takes the first available
 * hypervisor, then the fallback if one was allowed.
 * @throws MptError UNKNOWN_BACKEND, UNAVAILABLE (lists every candidate and why not)
 */
export function selectBackend({ prefer, fallback, options, backends = BACKENDS }: SelectOptions): Selection {
  const fallbackBackend = fallback === undefined ? undefined : findBackend(fallback, backends);
  if (prefer !== 'auto') {
    const backend = findBackend(prefer, backends);
    const probe = backend.probe(options);
    if (probe.available) return { backend, probe, reason: `asked for by name: ${probe.reason}` };
    if (fallbackBackend === undefined || fallbackBackend === backend)
      throw new MptError('UNAVAILABLE', `the backend cannot be used here: ${probe.reason}`, {
        backend: backend.name,
        op: 'select_backend',
      });
    return takeFallback(fallbackBackend, [`${backend.name}: ${probe.reason}`]);
  }
  const refused: string[] = [];
  for (const backend of backends) {
    if (backend.kind !== 'hypervisor') continue;
    const probe = backend.probe();
    if (probe.available) return { backend, probe, reason: `first available hypervisor: ${probe.reason}` };
    refused.push(`${backend.name}: ${probe.reason}`);
  }
  if (fallbackBackend !== undefined) return takeFallback(fallbackBackend, refused);
  throw new MptError('UNAVAILABLE', `no hypervisor can be used here (${refused.join(' | ')})`, {
    op: 'select_backend',
    hint: 'allow the simulation with --fallback sim',
  });
}

function takeFallback(backend: BackendModule, refused: readonly string[]): Selection {
  const probe = backend.probe();
  if (!probe.available)
    throw new MptError('UNAVAILABLE', `the fallback cannot be used either: ${probe.reason} (${refused.join(' | ')})`, {
      backend: backend.name,
      op: 'select_backend',
    });
  return { backend, probe, reason: `fallback, because ${refused.join(' | ')}` };
}
