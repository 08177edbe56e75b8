/** What register handlers may use of their vGPU. Handlers are functions of the device's table, shared by all vGPUs. */
import type { Display } from './display/display.js';
import type { Interrupts } from './interrupts.js';
import type { Ppgtt } from './ppgtt/ppgtt.js';
import type { FailsafeReason, GuestErrorLog, RegisterStore } from './roles.js';
import type { Submission } from './submission/submission.js';

export interface RegisterContext {
  readonly registers: RegisterStore;
  readonly interrupts: Interrupts;
  readonly submission: Submission;
  readonly display: Display;
  readonly ppgtt: Ppgtt;
  readonly log: GuestErrorLog;
  /** Fence registers that the vGPU has. */
  readonly fenceCount: number;
  /** Work may be submitted. */
  readonly active: boolean;
  /** The guest read PVINFO: it knows that it runs on a vGPU. */
  pvNotified: boolean;
  /** True when the GGTT address lies in the vGPU's own aperture or hidden memory. */
  ownsGgttAddress(address: number): boolean;
  /** Nanoseconds of a clock that never goes back. */
  now(): number;
  enterFailsafe(reason: FailsafeReason): void;
  /** Engine reset. @param mask bits of `EngineId` */
  resetEngines(mask: number): void;
  /** Full GT reset. */
  resetGt(): void;
  /** PVINFO display_ready was written. */
  displayReady(ready: boolean): void;
}
