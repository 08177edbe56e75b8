/** How long i915 took to find its way around the device: by the kernel's own stamps, in milliseconds. */

/** @throws Error when the console does not tell */
export function i915ProbeMs(console: string): number {
  const [detected, initialised] = [/Virtual GPU for Intel GVT-g detected/, /Initialized i915/].map((what) => {
    const stamp = new RegExp(`^\\[ *([\\d.]+)\\].*${what.source}`, 'm').exec(console)?.[1];
    if (stamp === undefined) throw new Error(`the console has no '${what.source}'`);
    return Number(stamp);
  }) as [number, number];
  return Math.round((initialised - detected) * 1000);
}
