/** What the monitor is connected by: HDMI, which DVI is to drivers as well, or DisplayPort. */
export const CONNECTORS = ['hdmi', 'dp'] as const;
export type Connector = (typeof CONNECTORS)[number];
export const DEFAULT_CONNECTOR: Connector = 'hdmi';
