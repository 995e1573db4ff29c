"""Point labels of some scenes, or of some points, that may be learned beside tags and clicks."""

import pathlib
from collections.abc import Collection, Mapping, Sequence

from mprm_jax.errors import MissingError, UserError
from mprm_jax.scans.scene import Scene, Source
from mprm_jax.scans.typed_files import read_typed, suggest

ALL = "all"


class LabeledScenes:
    """A data set some of whose scenes have point labels to learn; unlabeled points are unknown."""

    def __init__(self, source: Source, choice: str):
        """Marks scenes of a source.

        Args:
          choice: "all", or the path of a list of scenes, one per line; empty lines and lines that
            start with `#` are skipped.

        Raises:
          FileNotFoundError: there is no such list.
          ValueError: it names an unknown scene.
        """
        scenes = {scene for names in source.splits.values() for scene in names}
        self._known = scenes if choice == ALL else _read_list(pathlib.Path(choice), scenes)
        self.source, self.name = source, source.name
        self.classes: Sequence[str] = source.classes
        self.splits: Mapping[str, Sequence[str]] = source.splits
        self.optional: Collection[str] = source.optional

    def files(self, split: str, name: str) -> Sequence[str]:
        return self.source.files(split, name)

    def said(self, split: str, name: str) -> str:
        known = "; point labels are known" if name in self._known else ""
        return self.source.said(split, name) + known

    def read(self, split: str, name: str) -> Scene:
        scene = self.source.read(split, name)
        return scene._replace(labels_known=name in self._known and scene.labels is not None)


def _read_list(path: pathlib.Path, scenes: Collection[str]) -> set[str]:
    path = path.expanduser()
    if not path.is_file():
        raise MissingError(
            f"data.point_labels={path}: no such file; give none, all, or a list of scenes, one "
            "per line."
        )
    lines = [line.strip() for line in read_typed(path).splitlines()]
    names = {line for line in lines if line and not line.startswith("#")}
    unknown = sorted(names - set(scenes))
    if unknown:
        raise UserError(f"{path}: no scene {unknown[0]!r}; {suggest(unknown[0], sorted(scenes))}")
    return names
