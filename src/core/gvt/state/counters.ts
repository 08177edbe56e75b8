/** Statistics as a part of a saved state: by name, so that a counter that is added later is 0 in what was saved before. */
import type { VgpuStatistics } from '../roles.js';
import type { Saved, StateStream } from './stream.js';

const NAME_MAX = 64;
/** Far from where numbers lose their units, however long the vGPU goes on. */
const COUNT_MAX = 2 ** 52;
/** There are fewer; more may come. */
const COUNTERS_MAX = 64;

export class SavedCounters implements Saved {
  readonly #statistics: VgpuStatistics;

  constructor(statistics: VgpuStatistics) {
    this.#statistics = statistics;
  }

  exchange(state: StateStream): void {
    const counters = this.#statistics as unknown as Record<string, number>;
    const names = Object.keys(counters);
    if (state.restoring) for (const name of names) counters[name] = 0;
    state.list('counters', names.length, COUNTERS_MAX, (i) => {
      const name = state.text('name', names[i] ?? '', NAME_MAX);
      if (!names.includes(name)) state.refuse(`no counter is named '${name}'`);
      // Times have fractions of a nanosecond.
      const count = state.integer('count', Math.min(COUNT_MAX, Math.floor(counters[name] ?? 0)), COUNT_MAX);
      if (state.restoring) counters[name] = count;
    });
  }
}
