/** What `mpt serve` offers; apart, so that the command line does not load the devices to name them. */
export const SERVED_DEVICES = ['gvt', 'mbochs', 'mdpy'] as const;
export type ServedDeviceName = (typeof SERVED_DEVICES)[number];

/** Module that puts the device on its socket. */
export const servingModule = (device: ServedDeviceName): URL =>
  new URL(device === 'gvt' ? './serve-gvt.js' : './serve-sample.js', import.meta.url);
