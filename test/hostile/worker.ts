/** Explores in a thread of its own, so that one that watches can see when an operation does not end. */
import { parentPort, workerData } from 'node:worker_threads';
import { type Exploration, explore } from './explore.js';

const { exploration, progress } = workerData as { exploration: Exploration; progress: Int32Array };
const found = explore(exploration, progress, (sequence) => parentPort?.postMessage({ sequence: JSON.stringify(sequence) }));
parentPort?.postMessage({ found });
