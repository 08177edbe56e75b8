/**
 * The display engine of one vGPU: pipes with their frames and flips, and the port with its monitor (facts: gvt.md 4.15, 4.18). The
 * virtual monitor is at port B, where GVT-g has it on Broadwell: an HDMI or DVI one, whose DDC lines GMBUS reads, or a DisplayPort one
 * on the AUX channel, which has the same lines. The other answers nothing.
 *
 * Nothing is scanned out: planes are decoded when somebody asks for the picture.
 */
import type { EventSink, RegisterStore } from '../roles.js';
import type { Saved, StateStream } from '../state/stream.js';
import { AuxChannel } from './aux-channel.js';
import { Beam, type Lines } from './beam.js';
import { type Connector, DEFAULT_CONNECTOR } from './connector.js';
import { Ddc } from './ddc.js';
import { AUX_CONTROL, PORT_B, PortLink } from './ddi.js';
import { DpSink } from './dp-sink.js';
import { EDID_BLOCK, EDID_BLOCKS_MAX, edidFault } from './edid.js';
import { Gmbus, PIN_PORT_B } from './gmbus.js';
import { ENABLE, PIPE, PIPE_EVENTS, PIPE_STRIDE, PIPES, type Pipe, pipeEnabled } from './pipes.js';

/** Lines of 1024x768 at 60 Hz, until the guest programs a mode. */
const DEFAULT_LINES: Lines = { total: 806, blank: 768 };
/** A line as VTOTAL and VBLANK have it: 1 less. */
const LINE_MASK = 0x1fff;
/** TRANS_DDI_FUNC_CTL bits 26:24: 0 is HDMI, 1 DVI. */
const MODE_MASK = 7 << 24;
/** The counter's line is behind the one that is drawn: by 2 on HDMI, else by 1 (i915: intel_crtc_scanline_offset). */
const LAG_HDMI = 2;
const LAG = 1;

const FUSE_STRAP = 0x4_2014;
const FUSED_OFF = 1 << 30;
const SFUSE_STRAP = 0xc_2014;
const PCH_FUSED_OFF = 1 << 7;
const PORT_B_PRESENT = 1 << 2;
/** South display engine: live state of the hotplug lines, interrupt mask, and what a hotplug was. */
const SDEISR = 0xc_4000;
const PORT_B_LIVE = 1 << 21;
const PCH_PORT_HOTPLUG = 0xc_4030;
/** Port B: detection enabled; a long pulse came, which is plugging and unplugging. */
const PORT_B_DETECTS = 1 << 4;
const PORT_B_LONG = 2;

/** A monitor that is unplugged stays so at least this long: guests do not see a shorter gap. */
const REPLUG_NS = 500e6;
const NEVER = Number.POSITIVE_INFINITY;

/** Planes that flip, and where their address is live. */
const FLIPS = {
  primary: { surface: 0x7_019c, live: 0x7_01ac, event: 'flip', counts: true },
  sprite: { surface: 0x7_029c, live: 0x7_02ac, event: 'spriteFlip', counts: false },
} as const;
export type FlippingPlane = keyof typeof FLIPS;

export class Display implements Saved {
  /** False: fused off, so that drivers see a GPU without a display. */
  readonly present: boolean;
  readonly connector: Connector;
  readonly gmbus: Gmbus;
  readonly #registers: RegisterStore;
  readonly #events: EventSink;
  readonly #now: () => number;
  readonly #ddc = new Ddc(() => (this.#connected ? this.#edid : undefined));
  /** The monitor as a DisplayPort source sees it; undefined when it is none. */
  readonly #sink: DpSink | undefined;
  readonly #aux: AuxChannel;
  readonly #beams = PIPES.map(() => new Beam());
  readonly #flipping = PIPES.map(() => ({ primary: false, sprite: false }));
  #edid: Uint8Array;
  #connected: boolean;
  /** When a monitor that was plugged in too early is connected. */
  #plugAt = NEVER;
  #unpluggedAt = -NEVER;

  /** @param parts.edid of the monitor, which is connected; absent: no display. `connector`: by what; default HDMI */
  constructor(parts: {
    readonly registers: RegisterStore;
    readonly events: EventSink;
    readonly now: () => number;
    readonly edid: Uint8Array | undefined;
    readonly connector?: Connector;
  }) {
    this.#registers = parts.registers;
    this.#events = parts.events;
    this.#now = parts.now;
    this.present = parts.edid !== undefined;
    this.#edid = parts.edid ?? new Uint8Array();
    this.#connected = this.present;
    this.connector = parts.connector ?? DEFAULT_CONNECTOR;
    const dp = this.connector === 'dp';
    this.#sink = dp && this.present ? new DpSink(this.#ddc, new PortLink(parts.registers, PORT_B)) : undefined;
    this.#aux = new AuxChannel(parts.registers, parts.events);
    const ddcAt = (pin: number): Ddc | undefined => (!dp && pin === PIN_PORT_B ? this.#ddc : undefined);
    this.gmbus = new Gmbus({ registers: parts.registers, events: parts.events, ddcAt });
    this.populate();
  }

  /** A monitor is at the port, or will be as soon as the time that it has to be away is over. */
  get connected(): boolean {
    return this.#connected || this.#plugAt !== NEVER;
  }

  /** The monitor's EDID, connected or not. Not to be changed. */
  get edid(): Uint8Array {
    return this.#edid;
  }

  /** Device reset: registers have their reset values. The monitor is the operator's and stays. */
  reset(): void {
    this.gmbus.reset();
    this.#ddc.reset();
    this.#sink?.linkLost();
    for (const flips of this.#flipping) flips.primary = flips.sprite = false;
    this.populate();
  }

  /** Writes the registers that tell what there is; after each reset of theirs. */
  populate(): void {
    const { present } = this;
    this.#registers.set(FUSE_STRAP, present ? 0 : FUSED_OFF);
    this.#registers.set(SFUSE_STRAP, present ? PORT_B_PRESENT : PCH_FUSED_OFF);
    this.#setLive();
  }

  /** The monitor, the bus to it, frames and flips in progress. Planes and modes are registers, which are restored before. */
  exchange(state: StateStream): void {
    const now = this.#now();
    if (state.bool('present', this.present) !== this.present) state.refuse('it tells of another display than the vGPU has');
    this.#edid = state.blob('edid', this.#edid, EDID_BLOCK * EDID_BLOCKS_MAX);
    const fault = this.present ? edidFault(this.#edid) : this.#edid.length > 0 ? 'there is no monitor' : undefined;
    if (fault !== undefined) state.refuse(`the EDID is none: ${fault}`);
    this.#connected = state.bool('connected', this.#connected);
    this.#plugAt = state.number('plug-at', this.#plugAt, NEVER, 0);
    this.#unpluggedAt = state.number('unplugged-at', this.#unpluggedAt, now, -NEVER);
    if (!this.present && this.connected) state.refuse('there is no port for a monitor');
    state.within('gmbus', () => this.gmbus.exchange(state));
    state.within('ddc', () => this.#ddc.exchange(state));
    const sink = this.#sink;
    if (state.bool('sink', sink !== undefined) !== (sink !== undefined)) state.refuse('it tells of a monitor with another connector');
    if (sink !== undefined) state.within('sink', () => sink.exchange(state));
    for (const pipe of PIPES) state.within(`pipe-${'abc'[pipe]}`, () => this.#exchangePipe(state, pipe, now));
    if (state.restoring) this.populate();
  }

  #exchangePipe(state: StateStream, pipe: Pipe, now: number): void {
    const flips = this.#flipping[pipe] as Record<FlippingPlane, boolean>;
    (this.#beams[pipe] as Beam).exchange(state, now);
    flips.primary = state.bool('primary-flips', flips.primary);
    flips.sprite = state.bool('sprite-flips', flips.sprite);
  }

  // --- the monitor ------------------------------------------------------------------------------------------------

  /** Plugs the monitor in or out; the guest is interrupted. */
  hotplug(connected: boolean): void {
    if (connected === this.connected) return;
    const now = this.#now();
    if (!connected) {
      this.#plugAt = NEVER;
      this.#unpluggedAt = this.#connected ? now : this.#unpluggedAt;
      this.#setConnected(false);
    } else if (now - this.#unpluggedAt < REPLUG_NS) this.#plugAt = this.#unpluggedAt + REPLUG_NS;
    else this.#setConnected(true);
  }

  /** Another monitor: one that is connected is unplugged first. @param edid checked; kept */
  setMonitor(edid: Uint8Array): void {
    const { connected } = this;
    this.hotplug(false);
    this.#edid = edid;
    this.hotplug(connected);
  }

  #setConnected(connected: boolean): void {
    if (connected === this.#connected) return;
    this.#connected = connected;
    this.#sink?.reset();
    this.#setLive();
    const hotplug = this.#registers.get(PCH_PORT_HOTPLUG);
    if ((hotplug & PORT_B_DETECTS) === 0) return;
    this.#registers.set(PCH_PORT_HOTPLUG, hotplug | PORT_B_LONG);
    this.#events.raise('pch.hotplug-b');
  }

  #setLive(): void {
    const state = this.#registers.get(SDEISR);
    this.#registers.set(SDEISR, this.#connected ? state | PORT_B_LIVE : state & ~PORT_B_LIVE);
  }

  /** The control register of an AUX channel was written. */
  auxControl(offset: number, raw: number, old: number): void {
    const atPortB = offset === AUX_CONTROL.B;
    this.#aux.control(offset, raw, old, atPortB && this.#connected ? this.#sink : undefined, atPortB ? 'pch.aux-b' : undefined);
  }

  /** A port's buffer was switched off. */
  portOff(port: number): void {
    if (port === PORT_B) this.#sink?.linkLost();
  }

  // --- pipes ------------------------------------------------------------------------------------------------------

  /** Ends the frames that are due and plugs in what waits. */
  tick(): void {
    const now = this.#now();
    for (const pipe of PIPES) if (pipeEnabled(this.#registers, pipe)) this.#advance(pipe, now);
    if (now >= this.#plugAt) {
      this.#plugAt = NEVER;
      this.#setConnected(true);
    }
  }

  /** Nanoseconds until `tick` has something to do; infinite when nothing is on. */
  get untilTick(): number {
    const now = this.#now();
    let until = this.#plugAt - now;
    for (const pipe of PIPES) if (pipeEnabled(this.#registers, pipe)) until = Math.min(until, this.#beam(pipe).untilEnd(now));
    return Math.max(0, until);
  }

  /** A pipe was switched on or off. With it off, flips are done at once. */
  pipeSwitched(pipe: Pipe, on: boolean): void {
    if (on) this.#beam(pipe).start(this.#now());
    else this.#finishFlips(pipe);
  }

  /** PIPEDSL is read: the line, 0 with the pipe off. */
  scanLine(pipe: Pipe): number {
    if (!pipeEnabled(this.#registers, pipe)) return 0;
    const now = this.#now();
    this.#advance(pipe, now);
    return this.#beam(pipe).line(now, this.#lines(pipe));
  }

  /** PIPE_FRMCOUNT is read. */
  frameCount(pipe: Pipe): number {
    const now = this.#now();
    if (pipeEnabled(this.#registers, pipe)) this.#advance(pipe, now);
    return this.#beam(pipe).readCount(now);
  }

  /** A register was written that takes effect at the frame's end. */
  touched(pipe: Pipe): void {
    this.#beam(pipe).touched(this.#now());
  }

  /** A plane's address was written. @param now the flip is asynchronous: not at the frame's end */
  flip(pipe: Pipe, plane: FlippingPlane, now: boolean): void {
    this.touched(pipe);
    const flips = this.#flipping[pipe] as Record<FlippingPlane, boolean>;
    flips[plane] = true;
    if (now || !pipeEnabled(this.#registers, pipe)) this.#finishFlips(pipe);
  }

  #advance(pipe: Pipe, now: number): void {
    if (!this.#beam(pipe).advance(now)) return;
    this.#finishFlips(pipe);
    this.#events.raise((PIPE_EVENTS[pipe] as (typeof PIPE_EVENTS)[number]).vblank);
  }

  #finishFlips(pipe: Pipe): void {
    const flips = this.#flipping[pipe] as Record<FlippingPlane, boolean>;
    const block = pipe * PIPE_STRIDE;
    const registers = this.#registers;
    for (const plane of ['primary', 'sprite'] as const) {
      if (!flips[plane]) continue;
      flips[plane] = false;
      const { surface, live, event, counts } = FLIPS[plane];
      registers.set(block + live, registers.get(block + surface));
      if (counts) registers.set(block + PIPE.FLIP_COUNT, registers.get(block + PIPE.FLIP_COUNT) + 1);
      this.#events.raise((PIPE_EVENTS[pipe] as (typeof PIPE_EVENTS)[number])[event]);
    }
  }

  #lines(pipe: Pipe): Lines {
    const get = (register: number): number => this.#registers.get(register + pipe * PIPE_STRIDE);
    const total = ((get(PIPE.VTOTAL) >>> 16) & LINE_MASK) + 1;
    if (total === 1) return DEFAULT_LINES;
    const blank = get(PIPE.VBLANK) & LINE_MASK || get(PIPE.VTOTAL) & LINE_MASK;
    const lag = (get(PIPE.TRANSCODER_FUNCTION) & (ENABLE | MODE_MASK)) >>> 0 === ENABLE ? LAG_HDMI : LAG;
    return { total, blank: (blank + 1 + total - lag) % total };
  }

  #beam(pipe: Pipe): Beam {
    return this.#beams[pipe] as Beam;
  }
}
