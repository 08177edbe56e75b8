/**
 * In which order a copy does its rows, so that no row of the source is overwritten before it was read. Each row is read
 * whole before it is written, so only rows against other rows matter.
 *
 * Going down the rows is right wherever the destination's row does not lie above its source's address, going up wherever
 * it does not lie below. With equal pitches one of both holds for all rows. With different pitches the rows of the
 * destination overtake those of the source (or fall behind) at one row, the turn, and both parts have their own direction:
 * towards the turn when the destination's pitch is larger, away from it when it is smaller. That is right whenever pitches are
 * positive and rows do not overlap themselves; other copies onto themselves mean nothing in hardware either.
 */
import type { Surface } from './surface.js';

type Rows = Pick<Surface, 'start' | 'pitch'>;

export interface RowOrder {
  /** Rows done going down, first of all. */
  readonly down: number;
  /** Row that these begin with. */
  readonly downFrom: number;
  /** Row that the others, going up, begin with. */
  readonly upFrom: number;
}

/** Number of the row that is done as number `step`. */
export const rowAt = ({ down, downFrom, upFrom }: RowOrder, step: number): number =>
  step < down ? downFrom + step : upFrom - (step - down);

/** @param source undefined: any order will do */
export function rowOrder(destination: Rows, source: Rows | undefined, rows: number): RowOrder {
  if (source === undefined) return { down: rows, downFrom: 0, upFrom: 0 };
  /** How far the destination lies above the source at row 0, and how much farther at each next row. */
  const ahead = destination.start - source.start;
  const gain = destination.pitch - source.pitch;
  if (gain >= 0) {
    const turn = ahead > 0 ? 0 : gain === 0 ? rows : Math.min(rows, Math.floor(-ahead / gain) + 1);
    return { down: turn, downFrom: 0, upFrom: rows - 1 };
  }
  const turn = ahead <= 0 ? 0 : Math.min(rows, Math.ceil(ahead / -gain));
  return { down: rows - turn, downFrom: turn, upFrom: turn - 1 };
}
