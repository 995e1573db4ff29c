// How many seconds a person was at work: the window is visible and the last input is not old.

const IDLE_AFTER = 15; // seconds without input that still count as work
const INPUTS = ["pointerdown", "pointermove", "wheel", "keydown", "touchstart"];

export class Activity {
  constructor() {
    this.lastInput = this.counted = now();
    this.seconds = 0; // since the last save
    this.total = 0; // since the page was opened
    for (const name of INPUTS) {
      window.addEventListener(name, () => this.input(), { capture: true, passive: true });
    }
    document.addEventListener("visibilitychange", () => this.settle(document.hidden));
  }

  input() {
    this.settle();
    this.lastInput = now();
  }

  // Counts the time up to now; `visible` is what the window was until now.
  settle(visible = !document.hidden) {
    const until = Math.min(now(), this.lastInput + IDLE_AFTER);
    const passed = visible ? Math.max(0, until - this.counted) : 0;
    this.seconds += passed;
    this.total += passed;
    this.counted = now();
  }

  // The seconds to send with a save, without forgetting them: it may fail.
  read() {
    this.settle();
    return Math.round(this.seconds * 10) / 10;
  }

  // Forgets seconds that were saved.
  take(seconds) {
    this.seconds = Math.max(0, this.seconds - seconds);
  }

  // Counts seconds for the next save that were saved for something that is no longer there.
  giveBack(seconds) {
    this.seconds += seconds;
  }
}

function now() {
  return performance.now() / 1000;
}
