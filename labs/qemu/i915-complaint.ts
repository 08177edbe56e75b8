/** What i915 says of its own accord when something is not as it should be. */

const COMPLAINTS = [
  /\*ERROR\*/,
  /WARN/,
  /wedged|GPU HANG|Resetting/,
  /underrun|timed out|Atomic update failure|mismatch/i,
  /HPD interrupt storm/,
  /\[drm\].*[Ff]ail/,
];
/** There is no OpRegion over vfio-user, and no video BIOS: i915 takes its defaults. */
const EXPECTED = /Failed to find VBIOS tables \(VBT\)/;

/** The first complaint in a console, without its time. */
export const i915Complaint = (console: string): string | undefined =>
  console
    .split('\n')
    .find((line) => COMPLAINTS.some((complaint) => complaint.test(line)) && !EXPECTED.test(line))
    ?.replace(/^\[ *[\d.]+\] /, '')
    .trim();
