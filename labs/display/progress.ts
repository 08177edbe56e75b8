/** What this lab tells on stderr. */
import { progressOf } from '../common/progress.js';

export const { tell } = progressOf('lab:display');
