/**
 * One lane of one conversation as far as it is held: a run of entries without holes.
 *
 * Invariants: `entries` are ascending by Seq and contiguous; an entry is taken once; what came ahead of
 * a hole waits, bounded, until the hole is filled.
 */
import type { Entry } from "./model.js";

/** Entries that wait behind a hole; beyond this they are dropped and come again with the answer to GAP. */
export const AHEAD_MAX = 256;

export class LaneRun {
  entries: Entry[] = [];
  /** Too much was missed: the next head says whether this run still touches the end. */
  stale = false;
  /** Entries above a hole, by Seq. */
  private ahead = new Map<number, Entry>();
  /** Entries of a page below the run, until the page is complete. */
  private below = new Map<number, Entry>();

  get low(): number {
    return this.entries[0]?.seq ?? 0;
  }

  get high(): number {
    return this.entries[this.entries.length - 1]?.seq ?? 0;
  }

  get hasHole(): boolean {
    return this.ahead.size > 0;
  }

  /** Takes an entry in whatever order it comes; returns those that are new and in their place. */
  take(entry: Entry): Entry[] {
    if (this.high === 0 || entry.seq === this.high + 1) {
      const added: Entry[] = [];
      for (let next: Entry | undefined = entry; next; next = this.ahead.get(next.seq + 1)) {
        this.ahead.delete(next.seq);
        this.entries.push(next);
        added.push(next);
      }
      return added;
    }
    if (entry.seq < this.low) this.below.set(entry.seq, entry);
    else if (entry.seq > this.high && this.ahead.size < AHEAD_MAX) this.ahead.set(entry.seq, entry);
    return [];
  }

  /** The page is complete: joins what touches the run from below. */
  join(): Entry[] {
    const added: Entry[] = [];
    for (let next = this.below.get(this.low - 1); next; next = this.below.get(this.low - 1)) {
      added.unshift(next);
      this.entries.unshift(next);
    }
    this.below.clear();
    return added;
  }

  clear(): void {
    this.entries = [];
    this.ahead.clear();
    this.below.clear();
  }
}
