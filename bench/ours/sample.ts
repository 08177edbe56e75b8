/** What the programs of our side share. */
import { writeSync } from 'node:fs';

/** Does the work `count` times. @returns nanoseconds */
export type Sample = (count: number) => number;

/** Prepares a subject from its arguments. @returns what answers counts; nothing when the subject has reported by itself */
export type Open = (args: readonly string[]) => Sample | undefined | Promise<Sample>;

/** Nanoseconds from a fixed moment of this process. */
export const nowNs = (): number => performance.now() * 1e6;

/** Writes the answer to one count. */
export const report = (ns: number): void => void writeSync(1, `{"ns":${Math.round(ns)}}\n`);
