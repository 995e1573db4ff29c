"""Names of scenes and classes as they are compared and stored: one Unicode form, not too long."""

import hashlib
import unicodedata
from pathlib import Path

from mprm_jax.errors import UserError

# File systems take 255; what is written for a scene adds a dot, a suffix and ".partial".
MAX_BYTES = 200
_DIGEST = 8  # hexadecimal digits


def composed(text: str) -> str:
    """The text in Unicode's composed form (NFC).

    The same name is typed composed and stored decomposed, or the reverse, from system to system.
    """
    return unicodedata.normalize("NFC", text)


def read_typed(path: Path) -> str:
    """The text of a file that people write: UTF-8 with or without a mark, composed here.

    Raises:
      UserError: it is not UTF-8.
    """
    try:
        return composed(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        # As spreadsheets call it.
        form = "CSV UTF-8" if path.suffix.lower() == ".csv" else "UTF-8"
        raise UserError(f"{path}: not UTF-8 text ({error}); save it as {form}.") from error


def scene_name(path: str) -> str:
    """The name of the scan at a path without suffix, relative to the folder of scans.

    Folders are joined by "_"; a name too long for a file ends in a short hash of the whole.
    """
    name = composed(path).replace("\\", "_").replace("/", "_")
    whole = name.encode("utf-8", "surrogateescape")
    if len(whole) <= MAX_BYTES:
        return name
    kept = whole[: MAX_BYTES - _DIGEST - 1].decode("utf-8", "ignore")
    return f"{kept}~{hashlib.sha256(whole).hexdigest()[:_DIGEST]}"
