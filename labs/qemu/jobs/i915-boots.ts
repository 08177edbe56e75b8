/**
 * Debian's i915 on a GVT vGPU, boot after boot, with its monitor and with the display fused off in turns: each must find what there is and
 * have nothing to complain of. How long the driver took is told. The shortest time has a limit, unless others keep the machine's cores
 * busy: it would say how busy.
 */
import { availableParallelism, loadavg } from 'node:os';
import { i915Complaint } from '../i915-complaint.js';
import { type I915Probe, i915Probe } from '../i915-probe.js';
import { type Job, type Lab, LINE_LIMIT_S, mustEqual } from '../job.js';

const SCRIPT = `
connector=/sys/class/drm/card0-HDMI-A-1
if [ -e $connector ]; then
  echo "found $(cat $connector/status) $(head -n 1 $connector/modes) $(cat /sys/class/graphics/fb0/name)"
  dd if=/dev/urandom of=/dev/fb0 bs=64k count=16 2>/dev/null
  for line in $(seq 1 50); do echo "line $line of text that scrolls the console of the guest" >/dev/tty0; done
else
  echo "found $(ls /dev/dri | tr '\\n' ' ')$(ls /sys/class/drm | grep -c card0-) connectors"
fi
`;

/** With and without a display: what the guest finds. */
const KINDS = [
  { name: 'display on', display: true, found: 'connected 1024x768 i915drmfb' },
  { name: 'display off', display: false, found: 'card0 renderD128 0 connectors' },
] as const;
/** From "detected" to "initialised". */
const PROBE_LIMIT_MS = 200;
/**
 * Where the emulated guest comes to i915 in this time, or sooner. The probe makes about a thousand accesses and is otherwise the guest's own
 * instructions, so a slower machine gets as much more; one's 200 ms are another's 300, whatever the device does.
 */
const DETECTED_S = 4;
const atThatSpeed = ({ ms, detectedS }: I915Probe): number => ms * Math.min(1, DETECTED_S / detectedS);
/** Threads of a boot that want a core: QEMU, the device's server, and a little. */
const OWN_LOAD = 2.5;
/** Others want cores that the machine has not. */
const busy = (): boolean => (loadavg()[0] as number) > Math.max(OWN_LOAD, availableParallelism());

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] as number;

const boots = (name: string, count: number, onlyByName: boolean): Job => ({
  name,
  timeoutS: 180,
  onlyByName,
  run: async (lab: Lab): Promise<void> => {
    const probes = KINDS.map((): I915Probe[] => []);
    let judged = true;
    for (let boot = 0; boot < count; boot++) {
      const kind = KINDS[boot % KINDS.length] as (typeof KINDS)[number];
      await lab.check(`boot ${boot + 1} of ${count}, ${kind.name}: i915 finds what there is, and does not complain`, async () => {
        const server = await lab.serve({ device: 'gvt', type: 'GVTg_V4_8', display: kind.display });
        const guest = lab.boot({ modules: ['i915'], script: SCRIPT, devices: server.devices }, `boot-${boot + 1}`);
        const [, found] = await guest.line(/^found (.*)$/, LINE_LIMIT_S);
        const failure = await guest.ended;
        await server.stop();
        judged &&= !busy();
        if (failure !== undefined) throw new Error(failure);
        mustEqual('what it finds', found, kind.found);
        mustEqual('the first complaint', i915Complaint(guest.console), undefined);
        (probes[boot % KINDS.length] as I915Probe[]).push(i915Probe(guest.console));
      });
    }
    for (const [i, { name }] of KINDS.entries()) {
      const found = probes[i] as I915Probe[];
      const took = found.map(({ ms }) => ms);
      const best = Math.min(...found.map(atThatSpeed));
      const figures = `${Math.min(...took)} to ${Math.max(...took)} ms, median ${median(took)}, in ${took.length} boots; ${best.toFixed(0)} ms at the speed that is promised for`;
      lab.tell(`${name}: from detected to initialised ${figures}${judged ? '' : '; not judged, as others keep the cores busy'}`);
      if (!judged) continue;
      await lab.check(`${name}: i915 is initialised within ${PROBE_LIMIT_MS} ms of detecting the vGPU in the quickest boot`, () => {
        if (!(best <= PROBE_LIMIT_MS)) throw new Error(`it took ${figures}`);
      });
    }
  },
});

export const I915_BOOTS: Job = boots('i915-boots', 10, false);
export const I915_BOOTS_50: Job = boots('i915-boots-50', 50, true);
