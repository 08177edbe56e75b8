/** A sequence of operations in a world of its own, from beginning to end. */
import type { Connector } from '../../src/core/gvt/display/connector.js';
import type { Operation } from './operations.js';
import { type Level, World } from './world.js';

export interface Sequence {
  readonly level: Level;
  /** What the monitor is connected by; absent in older files: HDMI. */
  readonly connector?: Connector;
  readonly operations: readonly Operation[];
}

/** What a sequence came to, for whoever wants to know whether it reached anything. */
export interface Reach {
  commands: number;
  skippedCommands: number;
  workloads: number;
  hangs: number;
  guestErrors: number;
  shadowTables: number;
  interrupts: number;
  /** Messages over AUX that a monitor answered. */
  auxReplies: number;
}

export const noReach = (): Reach => ({
  commands: 0,
  skippedCommands: 0,
  workloads: 0,
  hangs: 0,
  guestErrors: 0,
  shadowTables: 0,
  interrupts: 0,
  auxReplies: 0,
});

/**
 * Runs it. @param progress counts operations, for whoever watches that they go on. @param reach is added to. @param fault see `Exploration`
 * @throws Error that says after which operation what did not hold
 */
export function runSequence({ level, connector, operations }: Sequence, progress?: Int32Array, reach?: Reach, fault?: string): void {
  const world = new World(level, undefined, connector);
  try {
    operations.forEach((operation, i) => {
      if (progress !== undefined) Atomics.add(progress, 0, 1);
      let wrong: string | undefined;
      try {
        world.apply(operation);
        wrong = operation[0] === fault ? 'a planted fault' : world.violation();
      } catch (error) {
        wrong = `it threw ${(error as Error).stack}`;
      }
      if (wrong !== undefined) throw new Error(`operation ${i}, ${JSON.stringify(operation).slice(0, 200)}: ${wrong}`);
    });
    const counts = { ...world.vgpu.statistics, auxReplies: world.auxReplies };
    if (reach !== undefined) for (const key of Object.keys(reach) as (keyof Reach)[]) reach[key] += counts[key];
    const wrong = world.end();
    if (wrong !== undefined) throw new Error(`at the end: ${wrong}`);
  } finally {
    world.close();
  }
}
