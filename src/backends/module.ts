/** What the registry needs of a backend: each `src/backends/<name>/index.ts` exports one of these. */
import type { Capabilities } from '../core/capabilities.js';
import type { MptBackend } from '../core/mpt-backend.js';

/** Why a backend can or cannot be used on this machine. Probing has no side effects and never throws. */
export interface ProbeResult {
  readonly available: boolean;
  /** One clause: what was found, or what is missing and how to get it. */
  readonly reason: string;
  /** Version of the hypervisor or its interface, when available. */
  readonly version?: string;
  /** What `open()` with the same options would declare; absent when unavailable. */
  readonly capabilities?: Readonly<Capabilities>;
}

/** JSON schema (draft-07) of a backend's options: properties only, `additionalProperties: false`. */
export interface OptionsSchema {
  readonly type: 'object';
  readonly additionalProperties: false;
  readonly properties: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

export interface BackendModule<Options extends object = Record<string, unknown>> {
  /** Name on the command line and in configuration. */
  readonly name: string;
  /** `auto` takes hypervisors only; a transport or a simulation must be named or allowed as fallback. */
  readonly kind: 'hypervisor' | 'transport' | 'simulation';
  readonly description: string;
  readonly optionsSchema: OptionsSchema;
  probe(options?: Options): ProbeResult;
  /** @throws MptError UNAVAILABLE, HYPERVISOR, INVALID_ARGUMENT */
  open(options?: Options): MptBackend;
}
