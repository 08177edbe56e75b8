/** Folders that the lab uses on the host and in dom0. */
import { EXIT, LabError } from '../common/lab-error.js';

/** Where dom0 has file systems of its own, so that the host's files are not there. */
const NOT_IN_DOM0 = /^\/(proc|sys|dev|run|var\/run)(\/|$)/;

/** @throws LabError USAGE when dom0 has no such folder, or cannot be told of it */
export function checkInDom0(what: string, folder: string): void {
  if (folder === '/' || NOT_IN_DOM0.test(folder)) throw new LabError(EXIT.USAGE, `${what} ${folder} is not visible in dom0`);
}
