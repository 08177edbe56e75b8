/** Folders that a lab makes. */
import { mkdirSync } from 'node:fs';
import { EXIT, LabError } from './lab-error.js';

/** @throws LabError USAGE */
export function makeFolder(what: string, folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw new LabError(EXIT.USAGE, `${what} cannot be made: ${(error as Error).message}`);
  }
}
