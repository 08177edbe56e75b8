/** Folders that the lab uses on the host and in dom0. */
import { mkdirSync } from 'node:fs';
import { EXIT, LabError } from './lab-error.js';

/** Where dom0 has file systems of its own, so that the host's files are not there. */
const NOT_IN_DOM0 = /^\/(proc|sys|dev|run|var\/run)(\/|$)/;

/** @throws LabError USAGE when dom0 has no such folder, or cannot be told of it */
export function checkInDom0(what: string, folder: string): void {
  if (folder === '/' || NOT_IN_DOM0.test(folder)) throw new LabError(EXIT.USAGE, `${what} ${folder} is not visible in dom0`);
}

/** @throws LabError USAGE */
export function makeFolder(what: string, folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw new LabError(EXIT.USAGE, `${what} cannot be made: ${(error as Error).message}`);
  }
}
