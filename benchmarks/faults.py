"""What can go wrong on the way, done on purpose on `rooms:tiny`: is anything lost?

    python benchmarks/faults.py --output faults.json            # some minutes
    python benchmarks/faults.py --hours 8 --output faults.json  # the campaign: as many as go in

First a chain of commands runs undisturbed: prepare, both stages, export, refine, evaluate, predict.
Then faults strike it, kind after kind in turn: kills at random moments, full disks, files that
vanish, flipped bits, wrong clocks, a second run in the same folder, a worker without memory. After
each the same command is given again. Right is: the results are those of the undisturbed chain, bit
for bit, and whatever ended early said why in one line. A JSON line a fault; status 1 if one is
wrong. Some need root on Linux (file systems of their own); without, they are left out, which is
said. Faults of the network between hosts: `benchmarks/fault_hosts.py`.
"""

import argparse
import collections
import contextlib
import itertools
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fault_chain import CHAIN, Ended, Step, begun, differences, run, said_file
from processes import print_row, rounded, write_report

TRAININGS = [step for step in CHAIN if step.name == "train"]
_CLOCK = pathlib.Path(__file__).parent / "wrong_clock"
_SOON = 0.05  # seconds between looks at a file


class WrongError(Exception):
    """Something was lost, or ended without saying why."""


class Chain(NamedTuple):
    """An undisturbed chain, and how long its commands take."""

    folder: pathlib.Path
    seconds: dict[str, float]  # by output


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="kinds: " + "; ".join(FAULTS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hours", type=float, default=0.0, help="go on for so long")
    parser.add_argument("--seed", type=int, default=0, help="of moments and places")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=[*FAULTS], metavar="KIND")
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    args = parser.parse_args()
    end = time.monotonic() + 3600 * args.hours
    rows = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        chain = undisturbed(pathlib.Path(folder) / "undisturbed")
        for turn in itertools.count():
            if turn and time.monotonic() > end:
                break
            for kind in args.only:
                rng = random.Random(f"{args.seed} {turn} {kind}")
                rows.append(print_row(rounded(strike(kind, chain, rng))))
                write_report(args.output, rows)
    counts = collections.Counter(row["ended"] for row in rows)
    print(", ".join(f"{count} {ended}" for ended, count in counts.items()), file=sys.stderr)
    sys.exit(1 if counts["wrong"] else 0)


def undisturbed(folder: pathlib.Path) -> Chain:
    """Runs the whole chain; twice, so that times are those without compilation."""
    for _ in range(2):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        seconds = {}
        for step in CHAIN:
            seconds[step.output] = _right(run(step, folder)).seconds
            if step.name == "prepare":
                _collect_scans(folder)
    return Chain(folder, seconds)


def strike(kind: str, chain: Chain, rng: random.Random) -> dict:
    """One fault: what was done, and how it ended."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=chain.folder.parent, prefix="struck-") as name:
        row = {"fault": kind}
        try:
            row |= FAULTS[kind](chain, pathlib.Path(name), rng)
            row.setdefault("ended", "as undisturbed")
        except (WrongError, TimeoutError) as error:
            row |= {"ended": "wrong", "why": str(error)}
    return row | {"seconds": time.monotonic() - start}


def killed(chain: Chain, folder: pathlib.Path, rng: random.Random) -> dict:
    """SIGKILL, one to three times, at any moment of any command."""
    step = rng.choice(CHAIN)
    _lead_up_to(step, chain, folder)
    moments = [rng.uniform(0, chain.seconds[step.output]) for _ in range(rng.randint(1, 3))]
    for moment in moments:
        with begun(step, folder) as process:  # which kills it in the end
            _wait(process, moment)
    _goes_on(step, chain, folder)
    return {"command": step.output, "killed_after_s": [round(x, 2) for x in moments]}


def full_disk(chain: Chain, folder: pathlib.Path, rng: random.Random) -> dict:
    """A disk that has room for a part of the results only, and for all of them later."""
    if (why := _no_mounts()) is not None:
        return {"ended": f"left out: {why}"}
    step = rng.choice([step for step in CHAIN if step.name != "evaluate"])
    needed = _bytes(chain.folder / step.output)
    room = int(rng.uniform(0.05, 0.9) * needed) + 65536
    with _disk(folder, f"size={room}"):
        _lead_up_to(step, chain, folder, links=True)
        struck = run(step, folder)
        if not struck.is_right and not struck.is_one_line:
            raise WrongError(f"a full disk: status {struck.status}, said {struck.said[-400:]!r}")
        _mount("-o", "remount,size=90%", str(folder))
        _goes_on(step, chain, folder)
    return {"command": step.output, "room_mb": room / 1e6, "said": _last_line(struck)}


def read_only_store(chain: Chain, folder: pathlib.Path, rng: random.Random) -> dict:
    """A store that can only be read is enough for training."""
    if (why := _no_mounts()) is not None:
        return {"ended": f"left out: {why}"}
    step = rng.choice(TRAININGS)
    _lead_up_to(step, chain, folder)
    store = str(folder / "prepared")
    _mount("--bind", store, store)
    try:
        _mount("-o", "remount,bind,ro", store)
        _goes_on(step, chain, folder)
    finally:
        subprocess.run(["umount", store], check=True)
    return {"command": step.output}


def store_changes(chain: Chain, folder: pathlib.Path, rng: random.Random) -> dict:
    """A file of the store vanishes or is cut while a network is trained, and is back later."""
    step = rng.choice(TRAININGS)
    _lead_up_to(step, chain, folder)
    victim = rng.choice(sorted((folder / "prepared" / "train").rglob("*.np[yz]")))
    whole, how = victim.read_bytes(), rng.choice(["vanishes", "is cut"])
    with begun(step, folder) as process:
        _wait(process, rng.uniform(0, chain.seconds[step.output]))
        if how == "is cut":
            os.truncate(victim, rng.randrange(len(whole)))
        else:
            victim.unlink()
        process.wait(600)
        status = process.returncode
    said = said_file(step, folder).read_text(encoding="utf-8", errors="replace")
    struck = Ended(status, said, 0.0)
    if not struck.is_right and not struck.is_one_line:
        raise WrongError(f"{victim.name} {how}: status {status}, said {said[-400:]!r}")
    victim.write_bytes(whole)
    os.utime(victim, ns=(0, (chain.folder / victim.relative_to(folder)).stat().st_mtime_ns))
    _goes_on(step, chain, folder)
    return {"command": step.output, "file": f"{victim.name} {how}", "said": _last_line(struck)}


def flipped_bit(chain: Chain, folder: pathlib.Path, rng: random.Random) -> dict:
    """One bit of a checkpoint is another one; never may another network come of it."""
    step = rng.choice(TRAININGS)
    _lead_up_to(step, chain, folder)
    with begun(step, folder) as process:
        _until(process, lambda: len(_checkpoints(folder / step.output)) > 1)
    newest = _checkpoints(folder / step.output)[-1]
    files = sorted(path for path in newest.rglob("*") if path.is_file() and path.stat().st_size)
    victim = rng.choices(files, [path.stat().st_size for path in files])[0]
    content = bytearray(victim.read_bytes())
    place = rng.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    victim.write_bytes(content)
    struck = run(step, folder)
    if not struck.is_right:
        if not struck.is_one_line:
            raise WrongError(f"{victim.name}: status {struck.status}, said {struck.said[-400:]!r}")
        shutil.rmtree(newest)
    _goes_on(step, chain, folder)
    file = victim.relative_to(folder).as_posix()
    return {"command": step.output, "file": file, "bit": place, "said": _last_line(struck)}


def wrong_clock(chain: Chain, folder: pathlib.Path, rng: random.Random) -> dict:
    """The clock of the day jumps by up to a day, forth and back, at every look."""
    step = rng.choice(CHAIN)
    _lead_up_to(step, chain, folder)
    path = os.pathsep.join([str(_CLOCK), os.environ.get("PYTHONPATH", "")])
    _right(run(step, folder, PYTHONPATH=path))
    _goes_on(step, chain, folder)
    return {"command": step.output}


def second_run(chain: Chain, folder: pathlib.Path, rng: random.Random) -> dict:
    """The same command again while it runs: one of the two says so and ends, the other is right."""
    step = rng.choice([step for step in CHAIN if step.name not in ("evaluate", "prepare")])
    _lead_up_to(step, chain, folder)
    with begun(step, folder) as first:
        _wait(first, rng.uniform(0.2, 0.8) * chain.seconds[step.output])
        second = run(step._replace(output="second"), folder)  # which says it elsewhere
        first.wait(600)
        if first.returncode != 0:
            raise WrongError(f"the first run ended with status {first.returncode}")
    if not second.is_right and not second.is_one_line:
        raise WrongError(f"the second run: status {second.status}, said {second.said[-400:]!r}")
    _goes_on(step, chain, folder)
    return {"command": step.output, "said": _last_line(second)}


def worker_without_memory(chain: Chain, folder: pathlib.Path, rng: random.Random) -> dict:
    """The process that builds input may not have more memory than it has."""
    if sys.platform != "linux":
        return {"ended": "left out: needs Linux"}
    import resource

    step = rng.choice(TRAININGS)
    _lead_up_to(step, chain, folder)
    with begun(step, folder, "data.workers=1") as process:
        _until(process, lambda: (folder / step.output / "metrics.jsonl").exists())
        for worker in _children(process.pid):
            resource.prlimit(worker, resource.RLIMIT_AS, (1 << 20, 1 << 20))
        process.wait(600)
        said = said_file(step, folder).read_text(encoding="utf-8", errors="replace")
        struck = Ended(process.returncode, said, 0.0)
    if not struck.is_right and not struck.is_one_line:
        raise WrongError(f"status {struck.status}, said {said[-400:]!r}")
    _goes_on(step, chain, folder)
    return {"command": step.output, "said": _last_line(struck)}


FAULTS: dict[str, Callable[[Chain, pathlib.Path, random.Random], dict]] = {
    "killed": killed,
    "full disk": full_disk,
    "read-only store": read_only_store,
    "store changes": store_changes,
    "flipped bit": flipped_bit,
    "wrong clock": wrong_clock,
    "second run": second_run,
    "worker without memory": worker_without_memory,
}


def _lead_up_to(step: Step, chain: Chain, folder: pathlib.Path, *, links: bool = False) -> None:
    """What the undisturbed chain has when this command begins.

    Args:
      links: instead of copies.
    """
    before = [earlier.output for earlier in CHAIN[: CHAIN.index(step)]]
    for name in ["rooms", "scans", *before] if before else []:
        here, there = folder / name, chain.folder / name
        if links:
            here.symlink_to(there)
        elif there.is_dir():
            shutil.copytree(there, here)
        else:
            shutil.copy2(there, here)


def _goes_on(step: Step, chain: Chain, folder: pathlib.Path) -> None:
    """The same command ends well, and what it leaves is that of the undisturbed chain.

    Raises:
      WrongError: it does not.
    """
    _right(run(step, folder))
    if other := differences(chain.folder / step.output, folder / step.output):
        raise WrongError(f"{step.output}: differs in {', '.join(other)}")


def _right(ended: Ended) -> Ended:
    if not ended.is_right:
        raise WrongError(f"status {ended.status}, said {ended.said[-400:]!r}")
    return ended


def _last_line(ended: Ended) -> str:
    """What a command ended with, if not well."""
    return "" if ended.is_right else ended.said.strip().splitlines()[-1]


def _wait(process: subprocess.Popen, seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _until(process: subprocess.Popen, is_so: Callable[[], bool]) -> None:
    while process.poll() is None and not is_so():
        time.sleep(_SOON)


def _checkpoints(workdir: pathlib.Path) -> list[pathlib.Path]:
    """Complete ones, the newest last."""
    found = [path for path in workdir.glob("checkpoints/*") if path.name.isdigit()]
    return sorted(found, key=lambda path: int(path.name))


def _children(parent: int) -> Iterator[int]:
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[1]) == parent:
            yield int(folder.name)


def _collect_scans(folder: pathlib.Path) -> None:
    """Two scans as a user might have them."""
    (folder / "scans").mkdir()
    for path in sorted((folder / "rooms").rglob("*_vh_clean_2.ply"))[:2]:
        shutil.copy(path, folder / "scans")


def _bytes(place: pathlib.Path) -> int:
    files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
    return sum(path.stat().st_size for path in files)


def _no_mounts() -> str | None:
    """Why this process cannot mount file systems; None if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    with tempfile.TemporaryDirectory() as name:
        try:
            with _disk(pathlib.Path(name), "size=1m"):
                return None
        except subprocess.CalledProcessError:
            return "mounts are not allowed"


@contextlib.contextmanager
def _disk(folder: pathlib.Path, options: str) -> Iterator[None]:
    """A file system of its own in a folder."""
    _mount("-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _mount(*flags: str) -> None:
    subprocess.run(["mount", *flags], check=True)


if __name__ == "__main__":
    main()
