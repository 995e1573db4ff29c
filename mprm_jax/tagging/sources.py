"""Where the scans to be tagged come from, and where the files about them lie."""

import pathlib

from mprm_jax.config import DataConfig
from mprm_jax.scans.scene import Source
from mprm_jax.store.datasets import DEFAULT_SIZE, ROOMS_ROOT, open_dataset, open_source
from mprm_jax.tagging.tag_files import TagFiles, finish_class


def open_scans(spec: str, data: DataConfig) -> tuple[Source, TagFiles]:
    """The scans of a specification, tagged or not, and the files that answers go to.

    Raises:
      ValueError, OSError: in one line, if the data set is unknown, not there, or a file of it is
        wrong.
    """
    kind, _, place = spec.partition(":")
    folder = pathlib.Path(place).expanduser()
    if kind == "rooms":
        folder = ROOMS_ROOT / (place or DEFAULT_SIZE)
    if kind != "folder" or not folder.is_dir():
        source = open_dataset(spec, data)
        names = [name for split in source.splits.values() for name in split]
        paths = dict(zip(names, names, strict=True))
        return source, TagFiles(folder, paths, classes=source.classes)
    finish_class(folder)
    # Not `open_dataset`, which wants a scan that is tagged already.
    source = open_source(spec, scale=data.scale)
    return source, TagFiles(folder, _paths(source, folder), scale=data.scale)


def _paths(source: Source, folder: pathlib.Path) -> dict[str, str]:
    """How `tags.csv` names each scan: with folders and suffix, so that no other is meant."""
    return {
        name: pathlib.Path(source.files(split, name)[0]).relative_to(folder).as_posix()
        for split, names in source.splits.items()
        for name in names
    }
