/** How long i915 took to find its way around the device: by the kernel's own stamps. */

export interface I915Probe {
  /** From "detected" to "initialised", milliseconds. */
  readonly ms: number;
  /** From the kernel's start to "detected", seconds: the machine's speed, since the device has no part in it. */
  readonly detectedS: number;
}

/** @throws Error when the console does not tell */
export function i915Probe(console: string): I915Probe {
  const [detected, initialised] = [/Virtual GPU for Intel GVT-g detected/, /Initialized i915/].map((what) => {
    const stamp = new RegExp(`^\\[ *([\\d.]+)\\].*${what.source}`, 'm').exec(console)?.[1];
    if (stamp === undefined) throw new Error(`the console has no '${what.source}'`);
    return Number(stamp);
  }) as [number, number];
  return { ms: Math.round((initialised - detected) * 1000), detectedS: detected };
}
