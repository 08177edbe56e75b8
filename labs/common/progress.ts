/** Tells on stderr what is being done, with the seconds since the start. */
export type Tell = (what: string) => void;

const started = performance.now();

export const seconds = (since = started): number => Math.round((performance.now() - since) / 100) / 10;

/** @param lab what each line begins with, as `lab:xen` */
export function progressOf(lab: string): { readonly tell: Tell; readonly tellOf: (job: string) => Tell } {
  const tell: Tell = (what) => void process.stderr.write(`${lab} ${seconds().toFixed(1).padStart(6)} s  ${what}\n`);
  /** The same, with the name of a job in front. */
  const tellOf =
    (job: string): Tell =>
    (what) =>
      tell(`${job}: ${what}`);
  return { tell, tellOf };
}
