"""The data set that `--data` names: `open_source("scannet:/path")`."""

from pathlib import Path

from mprm_jax.errors import MissingError, UserError
from mprm_jax.evidence.folder import Folder
from mprm_jax.scans.pointcept import Pointcept
from mprm_jax.scans.s3dis import S3DIS
from mprm_jax.scans.scannet import ScanNet
from mprm_jax.scans.scene import Source

KINDS = ("scannet", "s3dis", "pointcept", "folder")
VALID = ", ".join(["rooms", *(f"{kind}:PATH" for kind in KINDS)])


def open_source(spec: str, *, scale: float = 1.0, test_area: int = 5) -> Source:
    """Opens the data set of a specification `kind:path`.

    Args:
      spec: kind is one of scannet, s3dis, pointcept and folder; `~` is the home folder.
      scale: meters per unit of the scans of a folder; the other kinds are in meters.
      test_area: S3DIS area that validates, also of S3DIS prepared for Pointcept.

    Raises:
      OSError: the path does not exist or holds no data of this kind.
      ValueError: the kind is unknown or has no scale, or the data are wrong.
    """
    kind, _, text = spec.partition(":")
    if kind not in KINDS or not text:
        raise UserError(f"--data {spec}: unknown data set; valid are {VALID}.")
    root = Path(text).expanduser()
    if not root.is_dir():
        raise MissingError(f"--data {spec}: no folder {root}; check the path.")
    if scale != 1 and kind != "folder":
        raise UserError(f"--data {spec}: {kind} is in meters; leave data.scale at 1.")
    if kind == "scannet":
        return ScanNet(root)
    if kind == "s3dis":
        return S3DIS(root, test_area)
    if kind == "pointcept":
        return Pointcept(root, test_area=test_area)
    return Folder(root, scale)
