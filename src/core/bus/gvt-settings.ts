/** Settings of vGPUs of a GPU that GVT divides, besides those that all have. Apart from the GPU: a command line names them without one. */
import { MIB } from '../gvt/device-info.js';
import { MIN_APERTURE, MIN_HIDDEN } from '../gvt/explicit-resources.js';
import { type SettingSpec, wholeNumber, yesOrNo } from './settings.js';

/** More than a GPU has is no space on it, as the kernel answers, and told with what it has: any C int is taken here. */
const amount = (name: string, what: string, least: number): SettingSpec => ({
  name,
  description: `${what}, from ${least} to what the GPU has`,
  live: false,
  parse: wholeNumber(least, 0x7fff_ffff),
});

/** As much as the control socket takes. */
const ABSOLUTE = /^\/[^\0\n]{1,254}$/;
const TRACE_MIB_MAX = 65_536;

export const GVT_SETTINGS: readonly SettingSpec[] = [
  amount('aperture', 'MiB of aperture (low graphics memory)', MIN_APERTURE / MIB),
  amount('hidden', 'MiB of hidden (high) graphics memory', MIN_HIDDEN / MIB),
  amount('fences', 'fence registers', 1),
  {
    name: 'resolution',
    description: 'of its monitor, WIDTHxHEIGHT in pixels',
    live: false,
    parse: (text) => (/^\d{1,5}x\d{1,5}$/.test(text) ? text : undefined),
  },
  { name: 'display', description: 'a monitor, 1, or a display that is fused off, 0', live: false, parse: yesOrNo },
  {
    name: 'trace',
    description: 'file for a trace of what the engines do, an absolute path of 255 characters at most; begun anew for each client',
    live: false,
    parse: (text) => (ABSOLUTE.test(text) ? text : undefined),
  },
  {
    name: 'trace-limit',
    description: `MiB that the trace has at most, 1 to ${TRACE_MIB_MAX}; default 256`,
    live: false,
    parse: wholeNumber(1, TRACE_MIB_MAX),
  },
];
