/**
 * The folder of fetched and unpacked packages. It holds a folder a recipe, named by the recipe's hash, which appears whole
 * by a rename and never changes afterwards: a run that fills it, another that waits and a third that uses it do not
 * disturb each other, and what broke off is never taken for complete.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { remove, start, temporary } from './children.js';
import { makeFolder } from './folders.js';
import { EXIT, LabError } from './lab-error.js';
import type { Tell } from './progress.js';

/** Package to version. */
export type Versions = Readonly<Record<string, string>>;

/** What makes one tree. Two recipes that differ anywhere have two trees. */
export interface Recipe {
  readonly name: string;
  readonly packages: readonly string[];
  /** Whatever else decides what is in the tree. */
  readonly contents: unknown;
}

const PARTIAL = 'partial-';

/** A recipe's trees once made, with the versions of their packages. */
export type Made = ReadonlyMap<Recipe, Versions>;

export class Cache {
  /** `$MPT_LAB_CACHE`, or the user's cache folder, and in it the lab's. */
  readonly folder: string;
  readonly #tell: Tell;

  /** @param lab its folder's name */
  constructor(lab: string, tell: Tell, env: NodeJS.ProcessEnv = process.env) {
    const { MPT_LAB_CACHE: own, XDG_CACHE_HOME: xdg } = env;
    this.folder = resolve(own || join(xdg || join(homedir(), '.cache'), 'mediated-passthrough', 'labs'), lab);
    this.#tell = tell;
  }

  /** Where a recipe's tree is, or will be. */
  treeOf(recipe: Recipe): string {
    const hash = createHash('sha256').update(JSON.stringify(recipe)).digest('hex').slice(0, 12);
    return join(this.folder, `${recipe.name}-${hash}`);
  }

  /**
   * Makes the trees of `recipes` that are missing: `fill` gets an empty folder, makes each tree in `folder/NAME` and tells
   * the versions. One process fills at a time, others wait for it.
   */
  async complete(recipes: readonly Recipe[], fill: (folder: string, missing: readonly Recipe[]) => Promise<Made>): Promise<void> {
    const isMissing = (recipe: Recipe): boolean => !existsSync(this.treeOf(recipe));
    if (!recipes.some(isMissing)) return;
    makeFolder('the cache folder', this.folder);
    const unlock = await this.#lock(join(this.folder, 'lock'));
    try {
      const missing = recipes.filter(isMissing);
      if (missing.length === 0) return;
      // Nobody else fills now: what is left of earlier runs is abandoned.
      for (const name of readdirSync(this.folder)) if (name.startsWith(PARTIAL)) remove(join(this.folder, name));
      const folder = temporary(mkdtempSync(join(this.folder, PARTIAL)));
      for (const [recipe, versions] of await fill(folder, missing)) {
        writeFileSync(
          join(folder, recipe.name, 'stamp.json'),
          `${JSON.stringify({ made: new Date().toISOString(), versions }, null, 2)}\n`,
        );
        renameSync(join(folder, recipe.name), this.treeOf(recipe));
      }
      remove(folder);
    } finally {
      unlock();
    }
  }

  /** Takes the lock of a file by flock(1), which gives it up when this process is gone, however it ended. @returns unlock */
  async #lock(file: string): Promise<() => void> {
    const holder = start('flock', ['--exclusive', file, 'sh', '-c', 'echo; exec cat'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const waiting = setTimeout(() => this.#tell('waiting for another run that fills the cache'), 500);
    await new Promise<void>((resolve, reject) => {
      holder.stdout?.once('data', () => resolve());
      holder.once('error', reject);
      holder.once('close', (code) => reject(new LabError(EXIT.NO_VERDICT, `${file} cannot be locked: flock ended with ${code}`)));
    });
    clearTimeout(waiting);
    return () => holder.stdin?.end();
  }
}
