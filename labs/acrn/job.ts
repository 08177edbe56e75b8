/** A job: runs programs under the stand-in and has a point for each thing that must be so. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Checks } from '../common/checks.js';
import { type Outcome, run } from '../common/children.js';
import type { Tell } from '../common/progress.js';
import { type Point, readTap } from '../common/tap.js';
import { type Abi, leftovers, type Report, readReport } from './standin.js';

export interface Job {
  readonly name: string;
  /** Limit of each program. */
  readonly timeoutS: number;
  /** Not run unless it is asked for by name. */
  readonly onlyByName?: boolean;
  readonly run: (lab: Lab) => Promise<void>;
}

/** What came of a program, and what the stand-in was left with. */
export interface Ran extends Outcome {
  readonly report: Report;
}

/** What a job has to work with. */
export class Lab extends Checks {
  /** Folder of the job's files. */
  readonly out: string;
  readonly checkout: string;
  readonly #standin: string;
  readonly #timeoutS: number;

  constructor(parts: { standin: string; checkout: string; out: string; timeoutS: number; tell: Tell }) {
    super(parts.tell);
    this.out = parts.out;
    this.checkout = parts.checkout;
    this.#standin = parts.standin;
    this.#timeoutS = parts.timeoutS;
    mkdirSync(this.out, { recursive: true });
  }

  /**
   * Runs a program under the stand-in to its end, in the checkout. What it says is kept in files named after the step; that the
   * stand-in is left with nothing is a point of its own.
   */
  async under(step: string, abi: Abi | 'both' | 'none', command: readonly string[], flags: readonly string[] = []): Promise<Ran> {
    const report = join(this.out, `${step}.json`);
    const args = ['--abi', abi, '--report', report, ...flags, '--', ...command];
    const outcome = await run(this.#standin, args, { cwd: this.checkout, timeoutS: this.#timeoutS });
    writeFileSync(join(this.out, `${step}.out`), outcome.stdout);
    writeFileSync(join(this.out, 'console.log'), `== ${step}: ${command.join(' ')}\n${outcome.stderr}\n`, { flag: 'a' });
    let left: Report | undefined;
    await this.check(`${step}: the stand-in was left with no VM, mapping, descriptor or thread`, () => {
      left = readReport(report);
      const rest = leftovers(left);
      if (rest !== undefined) throw new Error(rest);
    });
    if (left === undefined) throw new Error(`${step}: the stand-in did not come to its end: ${outcome.stderr.trim().slice(-300)}`);
    return { ...outcome, report: left };
  }

  /** Takes the points of a program that prints TAP, each with the step in front. */
  tap(step: string, { stdout }: Outcome): readonly Point[] {
    const points = readTap(stdout).map((point) => ({ ...point, name: `${step} > ${point.name}` }));
    this.points.push(...points);
    return points;
  }
}
