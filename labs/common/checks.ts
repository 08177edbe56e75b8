/** Points of a job: each thing that must be so is looked at, and what breaks in the look fails it. */
import type { Tell } from './progress.js';
import type { Point } from './tap.js';

export class Checks {
  readonly points: Point[] = [];
  readonly tell: Tell;

  constructor(tell: Tell) {
    this.tell = tell;
  }

  /** Makes a point of what must be so: passed, or failed with the error's message. */
  async check(name: string, look: () => void | Promise<void>): Promise<void> {
    try {
      await look();
      this.points.push({ name, status: 'passed' });
    } catch (error) {
      const { message } = error as Error;
      this.tell(`failed: ${name}: ${message}`);
      this.points.push({ name: `${name}: ${message}`, status: 'failed' });
    }
  }
}
