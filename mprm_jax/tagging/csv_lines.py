"""The lines of a CSV file that people own: one is changed, all others stay byte for byte."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence

from mprm_jax.errors import UserError
from mprm_jax.evidence.tags import GEOMETRY, SCENE, UNSURE
from mprm_jax.scans.typed_files import composed


class CsvLines:
    """The lines of a CSV file as they are, so that those nobody touches stay so."""

    def __init__(self, data: bytes | None, header: Sequence[str]):
        """Cuts a file that its reader accepts into lines.

        Args:
          data: of the file; None for a new one.
          header: of a new one.
        """
        text = "" if data is None else data.decode("utf-8-sig")
        self._mark = "\ufeff" if data is not None and data.startswith(b"\xef\xbb\xbf") else ""
        self._newline = "\r\n" if "\r\n" in text else "\n"
        if data is None:
            text = self._line(header)
        pieces = text.splitlines(keepends=True)
        reader = csv.reader(pieces)
        # Physical lines of each record, by the number of its last one, as readers count.
        self._lines: dict[int, tuple[str, list[str]]] = {}
        done = 0
        for cells in reader:
            raw = "".join(pieces[done : reader.line_num]).rstrip("\r\n") + self._newline
            self._lines[reader.line_num] = (raw, [composed(cell).strip() for cell in cells])
            done = reader.line_num
        self._top = next(line for line, (_, cells) in self._lines.items() if any(cells))
        self.header = self._lines[self._top][1]

    def put(self, line: int | None, cells: Mapping[str, str]) -> None:
        """Changes the named cells of a line, except its place; None adds one at the end."""
        self.add_columns([name for name in cells if name not in self.header], lambda _: "")
        if line is None:
            values = [cells.get(name, "") for name in self.header]
        else:
            kept = (SCENE, *GEOMETRY)
            old = dict(zip(self.header, self._lines[line][1], strict=True))
            new = old | {name: text for name, text in cells.items() if name not in kept}
            values = [new[name] for name in self.header]
        number = max(self._lines) + 1 if line is None else line
        self._lines[number] = (self._line(values), values)

    def remove(self, line: int) -> None:
        """Removes a line."""
        del self._lines[line]

    def add_columns(self, names: Sequence[str], fill: Callable[[bool], str]) -> None:
        """Adds columns at the end; `fill` gives the cell of a line that is unsure or not."""
        if not names:
            return
        for line, (raw, cells) in self._lines.items():
            if not any(cells):
                continue
            is_unsure = dict(zip(self.header, cells, strict=True)).get(UNSURE) == "1"
            more = list(names) if line == self._top else [fill(is_unsure)] * len(names)
            joined = raw.rstrip("\r\n") + "," + self._line(more)
            self._lines[line] = (joined, [*cells, *more])
        self.header = self._lines[self._top][1]

    def data(self) -> bytes:
        """The file."""
        text = self._mark + "".join(raw for raw, _ in self._lines.values())
        try:
            return text.encode()
        except UnicodeEncodeError as error:
            name = text[error.start : error.end].encode("utf-8", "surrogateescape")
            raise UserError(
                f"{name!r} in the name of a scan is no UTF-8, so no table can hold it; rename the "
                "scan, then start mprm tag again."
            ) from error

    def _line(self, cells: Iterable[str]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator=self._newline).writerow(cells)
        # The writer quotes a single blank cell, which as part of a line needs none.
        return text.getvalue() if text.getvalue().strip() != '""' else self._newline
