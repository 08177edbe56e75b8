/** Tells on stderr what is being done, with the seconds since the start. */
export type Tell = (what: string) => void;

const started = performance.now();

export const seconds = (since = started): number => Math.round((performance.now() - since) / 100) / 10;

export const tell: Tell = (what) => void process.stderr.write(`lab:xen ${seconds().toFixed(1).padStart(6)} s  ${what}\n`);

/** The same, with the name of a job in front. */
export const tellOf =
  (job: string): Tell =>
  (what) =>
    tell(`${job}: ${what}`);
