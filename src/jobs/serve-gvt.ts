/** A GVT-g vGPU on a vfio-user socket: the device model over the backend of the same name. */
import { ServingBackend } from '../backends/vfio-user/serving.js';
import { MptError } from '../core/errors.js';
import { dispatchRequest } from '../core/gvt/dispatch.js';
import { DEFAULT_CONNECTOR } from '../core/gvt/display/connector.js';
import { Gvt } from '../core/gvt/gvt.js';
import type { Recorded } from '../recording/index.js';
import { type OpenTrace, openTrace } from '../recording/trace-file.js';
import { deviceMemories, realServerCalls } from '../vfio/index.js';
import { trafficCounts } from './counters.js';
import { recordOf, type Serve, type ServeHooks, type ServeInput } from './serve.js';
import { ServedVgpu } from './served-vgpu.js';

const DEFAULT_TYPE = 'GVTg_V4_8';
/** Commands that the engine executes in one slice. */
const SLICE_COMMANDS = 4096;
/** A slice between accesses of a guest that leaves no pause, once in so long: it waits for each while the engine runs. */
const ACCESSES_MS = 1;
const SHORT_SLICE_COMMANDS = 1024;
/** Each interrupt costs a guest behind a socket several round trips: measured (bench/README.md, vfio-user), with an emulated CPU. */
const SWITCH_PACE_MS = 1;
/** The clock and the kernel's timer do not end a wait at the same moment. */
const SHORTEST_WAIT_MS = 0.02;
/** How long the guest is waited for while nothing runs, unless the end of a frame comes before. */
const QUIET_WAIT_MS = 15;

export const serve: Serve = (input, hooks, { stopFlag, threadNs }, recording) => {
  const { place, type = DEFAULT_TYPE, resources = {}, trustClient, display = true, connector = DEFAULT_CONNECTOR, seat, state } = input;
  const trace = openedTrace(input, hooks);
  const backend = new ServingBackend(realServerCalls, { trustClient });
  let recorded: Recorded<Gvt> | undefined;
  try {
    backend.stopFlag = stopFlag;
    let clients = 0;
    const onConnect = (): void => {
      clients++;
      hooks.onConnect();
    };
    const machine = backend.serve(place, { ...hooks, onConnect });
    const onGuestError = (_vgpu: number, what: string): void => hooks.onComplaint(`the guest: ${what}`);
    const gpu = seat === undefined ? {} : { ...seat.gpu, schedule: seat.schedule, threadNs };
    const traced = trace === undefined ? {} : { trace: trace.log };
    const options = { ...gpu, ...traced, memories: deviceMemories, switchPaceMs: SWITCH_PACE_MS, onGuestError };
    recorded = recording?.openGvt(backend, options, recordOf(input, hooks));
    const gvt = recorded?.device ?? new Gvt(backend, options);
    const spec = { vmId: machine.vmId, ...(seat === undefined ? {} : { share: seat.share }) };
    const vgpu = state === undefined ? gvt.createVgpu({ type, resources, display, connector, ...spec }) : gvt.restoreVgpu(spec, state);
    const shown = new ServedVgpu(gvt, machine, vgpu, spec);
    let lastSlice = performance.now();
    const quietMs = (): number =>
      Math.min(QUIET_WAIT_MS, Math.max(1, Math.ceil(gvt.untilTickMs)), Math.max(SHORTEST_WAIT_MS, gvt.untilSwitchMs));
    const waitMs = (): number => (gvt.hasWork ? gvt.untilWorkMs : quietMs());
    return {
      get device() {
        return shown.device;
      },
      get away() {
        return shown.away;
      },
      obey: (order) => shown.obey(order),
      get ended() {
        return machine.ended;
      },
      counts: () => [...trafficCounts(clients, machine.traffic), ...Object.values(shown.vgpu.statistics)],
      step: () => {
        if (shown.away) return shown.sleep();
        const request = machine.requests.next(waitMs());
        shown.awaken(request !== undefined);
        if (request !== undefined) {
          dispatchRequest(gvt, request);
          machine.requests.complete(request);
        }
        // A guest that polls a register leaves no pause, and the engine must go on all the same.
        if (request !== undefined && performance.now() - lastSlice < ACCESSES_MS) return;
        if (request === undefined) {
          recorded?.idle();
          trace?.log.idle();
        }
        gvt.runSlice(request === undefined ? SLICE_COMMANDS : SHORT_SLICE_COMMANDS);
        // From its end on: a slow slice does not take the time of the accesses that waited for it.
        lastSlice = performance.now();
      },
      close: () => {
        gvt.destroy();
        recorded?.close();
        backend.close();
        trace?.close();
      },
    };
  } catch (error) {
    recorded?.close();
    backend.close();
    trace?.close();
    throw error;
  }
};

/** Where the file cannot be made the device goes on without, as when it can no longer be written. */
function openedTrace({ trace, traceLimit: limit }: ServeInput, { onComplaint }: ServeHooks): OpenTrace | undefined {
  if (trace === undefined) return undefined;
  const onFailure = ({ message }: MptError): void => onComplaint(`the trace has ended: ${message}`);
  try {
    return openTrace({ path: trace, limit, onFailure });
  } catch (error) {
    if (!MptError.is(error)) throw error;
    onFailure(error);
    return undefined;
  }
}
