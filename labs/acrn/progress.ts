/** What this lab tells on stderr. */
import { progressOf } from '../common/progress.js';

export const { tell, tellOf } = progressOf('lab:acrn');
