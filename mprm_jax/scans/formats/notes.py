"""What readers took for granted or found odd, said once per data set instead of once per file."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

logger = logging.getLogger(__name__)


class Note(NamedTuple):
    """One remark on a file; files with the same text share a line of the log."""

    text: str  # without numbers of its own; "{count}" stands for the sum of the counts
    count: int = 0
    warns: bool = False  # something is odd, not just taken for granted


# Of headers: what lies behind the points that they promise is left out.
MORE_POINTS = Note(
    "the header promises fewer points than the file holds; only those are read", warns=True
)


def log_notes(where: str, notes: Mapping[str, Sequence[Note]]) -> None:
    """Logs each text in one line, with the number of files it concerns.

    Args:
      where: the data set or file, first in the line.
      notes: of each file or scene, by name.
    """
    names: dict[Note, list[str]] = {}
    counts: dict[Note, int] = {}
    for name, of_file in notes.items():
        for note in of_file:
            key = note._replace(count=0)
            names.setdefault(key, []).append(name)
            counts[key] = counts.get(key, 0) + note.count
    for note, files in names.items():
        text = note.text.replace("{count}", str(counts[note]))
        example = (
            f" ({len(files)} of {len(notes)} scans, such as {files[0]})" if len(notes) > 1 else ""
        )
        logger.log(
            logging.WARNING if note.warns else logging.INFO, "%s: %s%s", where, text, example
        )


def log_new_notes(file: str, notes: Sequence[Note], told: set[str]) -> None:
    """Logs the notes of one of many files as it is read, each text once; warnings every time.

    Args:
      told: texts that were logged before; those of this file are added.
    """
    log_notes(file, {file: [note for note in notes if note.warns or note.text not in told]})
    told.update(note.text for note in notes)
