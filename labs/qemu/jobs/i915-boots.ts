/** Debian's i915 on a GVT vGPU with its monitor, boot after boot: each must find the monitor and have nothing to complain of. */
import { i915Complaint } from '../i915-complaint.js';
import { type Job, type Lab, LINE_LIMIT_S, mustEqual } from '../job.js';

const SCRIPT = `
echo "connected $(cat /sys/class/drm/card0-HDMI-A-1/status) $(head -n 1 /sys/class/drm/card0-HDMI-A-1/modes) $(cat /sys/class/graphics/fb0/name)"
dd if=/dev/urandom of=/dev/fb0 bs=64k count=16 2>/dev/null
for line in $(seq 1 50); do echo "line $line of text that scrolls the console of the guest" >/dev/tty0; done
`;

const boots = (name: string, count: number, onlyByName: boolean): Job => ({
  name,
  timeoutS: 180,
  onlyByName,
  run: async (lab: Lab): Promise<void> => {
    for (let boot = 1; boot <= count; boot++)
      await lab.check(`boot ${boot} of ${count} has its monitor and no complaint`, async () => {
        const server = await lab.serve({ device: 'gvt', type: 'GVTg_V4_8' });
        const guest = lab.boot({ modules: ['i915'], script: SCRIPT, devices: server.devices }, `boot-${boot}`);
        const [, found] = await guest.line(/^connected (.*)$/, LINE_LIMIT_S);
        const failure = await guest.ended;
        await server.stop();
        if (failure !== undefined) throw new Error(failure);
        mustEqual('the connector', found, 'connected 1024x768 i915drmfb');
        mustEqual('the first complaint', i915Complaint(guest.console), undefined);
      });
  },
});

export const I915_BOOTS: Job = boots('i915-boots', 10, false);
export const I915_BOOTS_50: Job = boots('i915-boots-50', 50, true);
