// Keys: which press belongs to the page, to the mode, or to a class.
//
// Keys go by what they type (event.key), so every keyboard layout works; the row of digits also
// counts where digits need Shift. Presses wait for the save before them, and are forgotten if
// it fails: they were meant for the next ball.

const OURS = new Set(["Enter", "Backspace", "Delete", "Escape"]);

export class Keys {
  constructor(app) {
    this.app = app;
    this.queue = Promise.resolve();
    document.addEventListener("keydown", (event) => this.press(event));
    const search = document.getElementById("class-search");
    search.addEventListener("input", () => app.mode?.show());
    search.addEventListener("keydown", (event) => this.searchKey(event, search));
    const newClass = document.getElementById("new-class-name");
    newClass.addEventListener("keydown", ({ key }) => key === "Escape" && newClass.blur());
  }

  press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    const { key } = event;
    if (key.length > 1 && !OURS.has(key)) return;
    if (document.getElementById("help").open) return this.closeHelp(event);
    if (isTyping(event.target)) return;
    if (isPressed(event.target) && (key === " " || key === "Enter")) return;
    event.preventDefault();
    if (event.repeat && key.length === 1) return;
    const { failures } = this.app;
    const { shiftKey: shift, code } = event;
    this.queue = this.queue.then(() => {
      if (this.app.failures === failures) return this.handle({ key, shift, code });
    }).catch((error) => this.app.refuse(error));
  }

  closeHelp(event) {
    if (event.key !== "?") return; // the dialog closes itself on Escape
    event.preventDefault();
    document.getElementById("help").close();
  }

  // What a key does; a promise where that is not done at once. A mode answers false to a key that
  // says nothing to it.
  handle({ key, shift, code }) {
    const { app } = this;
    app.forgetSaved();
    const typed = key.length === 1 ? key.toLowerCase() : key;
    if (!app.mode) return undefined;
    const general = app.generalKeys[typed];
    if (general) return general();
    const digit = /^Digit([0-9])$/.exec(code)?.[1];
    if (app.readonly) return app.lookKey(typed, digit);
    const saving = app.savingKeys[typed];
    if (saving) return saving();
    let handled = app.mode.onKey(typed);
    if (handled === false && digit && digit !== typed) handled = app.mode.onKey(digit);
    if (handled !== false) return handled;
    const index = app.classKeys.get(typed) ?? app.classKeys.get(digit);
    if (index === undefined) return undefined;
    // Where digits need Shift, Shift says nothing.
    const meant = shift && !/^[0-9]$/.test(typed);
    return app.mode.onClassKey ? app.mode.onClassKey(index, meant) : app.mode.toggle(index);
  }

  searchKey(event, search) {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    const [first] = this.app.panel.found ?? [];
    if (event.key === "Enter" && search.value.trim() && first) first.press?.();
    search.value = "";
    search.blur();
    this.app.mode?.show();
  }
}

function isTyping(target) {
  return target instanceof HTMLInputElement && ["text", "search"].includes(target.type) ||
    target instanceof HTMLSelectElement;
}

// A button or box that has the focus takes Space and Enter itself.
function isPressed(target) {
  return target instanceof HTMLButtonElement;
}
