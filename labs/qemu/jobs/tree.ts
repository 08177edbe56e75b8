/**
 * vGPUs that are made and removed by `echo` in the management tree, as the documents of mdev and of AcrnGT have it, and QEMU on both of them:
 * one guest finds them on its bus. They cannot be removed while it runs; afterwards they can, and the counts are as before.
 */
import { noTree } from '../../../src/sysfs/index.js';
import { LabDaemon } from '../daemon.js';
import { deviceOf } from '../guest.js';
import { findDevice, type Job, type Lab, LINE_LIMIT_S, mustEqual } from '../job.js';

const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
const TYPE = '$1/class/mdev_bus/mdpy/mdev_supported_types/mdpy-xga';
const GVT_TYPE = '$1/class/mdev_bus/0000:00:02.0/mdev_supported_types/i915-GVTg_V4_8';
const VM = 3;

const MDEV = {
  before: `cat ${TYPE}/available_instances; ls ${TYPE}/devices`,
  create: `echo ${UUID} > ${TYPE}/create; cat ${TYPE}/available_instances ${TYPE}/devices/${UUID}/socket`,
  remove: `echo 1 > $1/bus/mdev/devices/${UUID}/remove`,
} as const;
const ACRN = {
  before: `cat ${GVT_TYPE}/available_instances; ls /sys/kernel/gvt`,
  create: `
echo "${VM},64,448,4" > /sys/kernel/gvt/control/create_gvt_instance
cat ${GVT_TYPE}/available_instances "$1/bus/mdev/devices/$(cat /sys/kernel/gvt/vm${VM}/uuid)/socket" /sys/kernel/gvt/vm${VM}/vgpu_id`,
  remove: `echo "-${VM}" > /sys/kernel/gvt/control/create_gvt_instance`,
} as const;

const GUEST = `${findDevice('0x1b36', '0x000f')}
echo "mdpy $(cat $device/class)"
${findDevice('0x8086', '0x1616')}
echo "vgpu $(cat $device/class)"
read answer
`;

async function run(lab: Lab): Promise<void> {
  const missing = noTree();
  if (missing !== undefined) {
    lab.skip('vGPUs made by echo', missing);
    return;
  }
  const daemon = await LabDaemon.start(lab.checkout, lab.out, { tree: true });
  const says = async (what: string, wanted: string): Promise<void> => {
    const { status, stdout, stderr } = await daemon.acrn(what);
    if (status !== 0) throw new Error(stderr);
    mustEqual('what the script says', stdout, wanted);
  };
  const mustBeBusy = async (script: string): Promise<void> => {
    const { stderr } = await daemon.acrn(byDd(script));
    if (!stderr.includes('Device or resource busy')) throw new Error(`it was not refused with EBUSY: ${stderr}`);
  };
  await lab.check('before: four mdpy, six vGPUs, none there', () => says(`${MDEV.before}; ${ACRN.before}`, '4\n6\ncontrol\n'));
  const made = await daemon.acrn(`${MDEV.create}; ${ACRN.create}`);
  const [mdpyLeft, mdpySocket = '', gvtLeft, gvtSocket = '', id] = made.stdout.split('\n');
  await lab.check('echo makes one of each, and the counts fall', () =>
    mustEqual(`the counts (${made.stderr})`, [mdpyLeft, gvtLeft, id].join(), '3,5,1'),
  );
  const guest = lab.boot({ modules: [], script: GUEST, devices: [mdpySocket, gvtSocket].flatMap(deviceOf) });
  const line = async (pattern: RegExp): Promise<string> => (await guest.line(pattern, LINE_LIMIT_S))[1] as string;
  await lab.check('QEMU boots on both, and the guest finds a display controller 1b36:000f', async () =>
    mustEqual('its class', await line(/^mdpy (.*)$/), '0x038000'),
  );
  await lab.check('and a vGPU 8086:1616', async () => mustEqual('its class', await line(/^vgpu (.*)$/), '0x030000'));
  await lab.check('neither can be removed while it runs: EBUSY', async () => {
    await mustBeBusy(MDEV.remove);
    await mustBeBusy(ACRN.remove);
  });
  guest.answer('done');
  const failure = await guest.ended;
  await lab.check('the guest went on, without a fault in its kernel, and powered off', () => mustEqual('its end', failure, undefined));
  await lab.check('afterwards they are removed, and the counts are as before', async () => {
    await says(`${MDEV.remove}; ${ACRN.remove}; ${MDEV.before}; ${ACRN.before}`, '4\n6\ncontrol\n');
  });
  await lab.check('the daemon ended with 0', () => daemon.stop());
}

/** The same write by dd, which tells the errno in words. */
function byDd(script: string): string {
  const [, text, file] = /^echo (\S+) > (\S+)$/.exec(script.trim()) as unknown as [string, string, string];
  return `printf '%s' ${text} | dd of=${file} 2>&1 >/dev/null | cat >&2`;
}

export const TREE: Job = { name: 'tree', timeoutS: 180, run };
