"""What made a result: the commit, versions and source of this package, the machine, its devices."""

import functools
import pathlib
import subprocess

from mprm_jax.machine import describe_machine, version_facts

_CHECKOUT = pathlib.Path(__file__).parents[1]
_GIT_SECONDS = 10


@functools.cache
def made_by(devices: str = "") -> dict[str, str | int]:
    """Goes beside results, so that they can be made again.

    Args:
      devices: that computed, as `describe_devices` says; left out if there were none.
    """
    facts = {"commit": found} if (found := commit()) else {}
    return facts | version_facts() | describe_machine() | ({"devices": devices} if devices else {})


def commit() -> str:
    """Of the checkout that this package lies in, with "-dirty" if it was changed; "" without."""
    if not (_CHECKOUT / ".git").exists():
        return ""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(
            command, cwd=_CHECKOUT, check=True, capture_output=True, text=True, timeout=_GIT_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return ""  # no git, or a checkout of somebody else
    return found.stdout.strip()
