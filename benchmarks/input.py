"""Input of the training step: how fast buckets are built, and how long the steps wait for them.

One line per builder and number of worker processes (0: a thread of the main process). First the
buckets alone, as fast as they come; then with the training step, as in a run, or with one that only
sleeps, as long as an accelerator would compute:

    python benchmarks/input.py --workers 0 1 2
    python benchmarks/input.py --preset quick --builders host device --output input.json
    python benchmarks/input.py --builders device --sleep 8 17
"""

import argparse
import itertools
import json
import pathlib
import time
from collections.abc import Iterator

import jax
from processes import print_row, rounded, run_worker, write_report
from step import prepare_process
from step_cases import Case, CaseSpec, add_data_flags, make_case, plan_of, read_spec, spec_of

from mprm_jax.batches.loader import LoadedBatch, Loader
from mprm_jax.training.parallel import make_mesh, shard_batch

_SETTLED = 2  # steps before the clock starts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_flags(parser)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--builders", nargs="*", default=[], help="host, device; default: auto")
    parser.add_argument(
        "--sleep", type=float, nargs="+", default=[], help="ms per 100 000 points, instead of steps"
    )
    parser.add_argument("--steps", type=int, default=20, help="steps timed (default: 20)")
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        spec = read_spec(args.worker)
        prepare_process(spec, None)
        print(json.dumps(measure(spec, args.steps, args.sleep)))
        return
    rows = []
    builders = [(f"pyramid.builder={builder}",) for builder in args.builders] or [()]
    for builder, workers in itertools.product(builders, args.workers):
        spec = spec_of(args, *builder, f"data.workers={workers}")
        worker = ("--worker", json.dumps(spec._asdict()), "--steps", str(args.steps))
        worker += ("--sleep", *map(str, args.sleep)) if args.sleep else ()
        rows.append(print_row(run_worker(__file__, *worker)))
        write_report(args.output, rows)


def measure(spec: CaseSpec, num_steps: int, sleeps: list[float]) -> dict:
    """Times the input of a case in this process, without and with its step.

    Args:
      sleeps: ms per 100 000 points that steps sleep instead, in turn.
    """
    case = make_case(spec)
    plan = plan_of(case.config, case.balls)
    steps = list(itertools.islice(itertools.cycle(plan), num_steps + _SETTLED))
    with Loader(case.balls, case.config) as loader:
        alone = _timed(loader.load(steps, epoch=0), num_steps)
    row = {}
    for ms in sleeps:
        with Loader(case.balls, case.config) as loader:
            slept = _timed(_sleep(ms, loader.load(steps, epoch=0)), num_steps)
        row[f"waiting_share_at_{ms:g}_ms"] = slept["waited"] / slept["seconds"]
    if not sleeps:
        with Loader(case.balls, case.config) as loader:
            trained = _timed(_train(case, spec, loader.load(steps, epoch=0)), num_steps)
        row["training_subclouds_per_s"] = trained["subclouds"] / trained["seconds"]
        row["training_points_per_s"] = trained["points"] / trained["seconds"]
        row["waiting_share"] = trained["waited"] / trained["seconds"]
    return rounded(
        {
            "settings": " ".join((spec.preset, *spec.settings)),
            "builder": case.config.pyramid.builder,
            "workers": case.config.data.workers,
            "device": jax.devices()[0].device_kind,
            "steps": num_steps,
            "input_subclouds_per_s": alone["subclouds"] / alone["seconds"],
            "input_points_per_s": alone["points"] / alone["seconds"],
            **row,
        }
    )


def _train(case: Case, spec: CaseSpec, batches: Iterator[LoadedBatch]) -> Iterator[LoadedBatch]:
    """Passes batches on after the step that learns them was computed."""
    mesh, state = make_mesh(jax.local_devices()[: spec.devices]), case.state
    for loaded in batches:
        state, _ = jax.block_until_ready(case.step(state, shard_batch(loaded.batch, mesh)))
        yield loaded


def _sleep(ms: float, batches: Iterator[LoadedBatch]) -> Iterator[LoadedBatch]:
    """Passes batches on after the time that a device with this speed would take."""
    for loaded in batches:
        time.sleep(ms / 1000 * loaded.points / 100_000)
        yield loaded


def _timed(batches: Iterator[LoadedBatch], num_steps: int) -> dict[str, float]:
    """Sums over the batches after the first few, and the seconds they took."""
    for _ in range(_SETTLED):
        next(batches)
    start = time.perf_counter()
    sums = {"subclouds": 0.0, "points": 0.0, "waited": 0.0}
    for loaded in itertools.islice(batches, num_steps):
        sums["subclouds"] += sum(map(len, loaded.members))
        sums["points"] += loaded.points
        sums["waited"] += loaded.waited
    return sums | {"seconds": time.perf_counter() - start}


if __name__ == "__main__":
    main()
