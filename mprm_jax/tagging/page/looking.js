// Looking: where nothing can be saved, one ball, question or finding is shown after another.
//
// A mode that can be looked through has `items`, its `current` one, and `select`.

export function lookActions(app) {
  return [
    { label: "Next", key: "Space", press: () => lookOn(app), main: true },
    { label: "Back", key: "⌫", press: () => lookBack(app) },
  ];
}

export function lookKey(app, key) {
  if (key === " " || key === "Enter") return lookOn(app);
  if (key === "Backspace") return lookBack(app);
  return false;
}

// The next item of the scan, or the next scan.
function lookOn(app) {
  const { items, current } = app.mode;
  const next = items[items.indexOf(current) + 1];
  return next ? app.mode.select(next) : app.nextToLookAt();
}

function lookBack(app) {
  const { items, current } = app.mode;
  const place = items.indexOf(current);
  return place > 0 ? app.mode.select(items[place - 1]) : app.scanBefore();
}
