/** `create`: a VM with its memory, and its end. */
import { openBackend, RAM_SIZE } from './guest.js';
import { nowNs, type Open } from './sample.js';

export const open: Open = () => {
  const backend = openBackend();
  return (count) => {
    const start = nowNs();
    for (let i = 0; i < count; i++) backend.createMachine({ ram: [{ gpa: 0, size: RAM_SIZE }] }).close();
    return nowNs() - start;
  };
};
