"""Runs the paper's experiments on a data set and writes a report; see --help."""

import concurrent.futures
import pathlib
import threading
from collections.abc import Sequence

from mprm_jax.commands.commandline import check_devices, make_parser, resolve_config
from mprm_jax.commands.jobs import Job, run_timed
from mprm_jax.commands.reproduction.jobs import (
    GROUPS,
    Setting,
    claim,
    is_report_of,
    make_jobs,
)
from mprm_jax.commands.reproduction.ladder import ladder_jobs
from mprm_jax.errors import UserError
from mprm_jax.presets import STAGES

DESCRIPTION = """\
Runs the paper's experiments on a data set and writes one report, as Markdown and as HTML.

Tag statistics (Table 1), pseudo-labels of PCAM and MPRM from scene and subcloud tags, with and
without the CRF (Table 2), paths and fusion (Table 3), the validation split before and after
retraining (Table 4), full supervision (Table 5), pictures and cost, over several seeds. Then the
ladder: what each ingredient beyond the paper adds. The report is written anew after every step;
what is not measured yet stays blank. The same command continues where it stopped."""

EXAMPLES = """\
examples:
  mprm reproduce
  mprm reproduce --seeds 1 --only labels
  mprm reproduce --data scannet:/data/scannet --plan --points-per-second 5e6
  mprm reproduce --data scannet:/data/scannet --workdir runs/reproduce-scannet"""


def main() -> None:
    parser = make_parser(DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "--workdir",
        type=pathlib.Path,
        help="runs and report go here (default: runs/reproduce-<data>-<preset>)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=GROUPS,
        default=list(GROUPS),
        help="groups of experiments (default: all); tags: Table 1, labels: Table 2,\n"
        "paths: Table 3, retraining: Tables 4 and 5, ladder: one ingredient after the other",
    )
    parser.add_argument("--devices", type=int, help="as in mprm train")
    parser.add_argument(
        "--parallel",
        type=int,
        default=1,
        metavar="N",
        help="seeds that are worked on at the same time; give --devices 1 with it on a CPU\n"
        "(default: 1)",
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="print what there is to do, with points, hours and disk; does no more than prepare",
    )
    parser.add_argument(
        "--points-per-second",
        type=float,
        metavar="P",
        help="with --plan: points that training learns in a second on the machine that will be\n"
        "used, as mprm train or benchmarks/accelerator.py print it (default: what is done says)",
    )
    args = parser.parse_args()
    check_devices(args.devices)
    if args.points_per_second is not None and not (args.plan and args.points_per_second > 0):
        raise UserError("--points-per-second goes with --plan and is more than 0.")
    if args.seeds < 1:
        raise UserError(f"--seeds {args.seeds}: give 1 or more.")
    if args.parallel < 1:
        raise UserError(f"--parallel {args.parallel}: give 1 or more.")
    config = resolve_config(args, "cls")
    # Not at the top, as in all commands: --help answers at once.
    from mprm_jax.commands.reproduction.report import write_report
    from mprm_jax.store.datasets import ensure_store, place_of_results

    store = ensure_store(args.data, config, args.store)
    root = args.workdir or place_of_results(
        store,
        lambda name: pathlib.Path("runs") / f"reproduce-{name}-{config.preset}",
        lambda place: is_report_of(place, store),
    )
    own_store = args.store is not None
    setting = Setting(root, args.data, config.preset, store.path, args.devices, args.set, own_store)
    configs = {stage: resolve_config(args, stage) for stage in STAGES}
    epochs = configs["seg"].optim.epochs
    by_seed = [_jobs(setting, seed, args.only, epochs) for seed in range(args.seeds)]
    jobs = list({job.result: job for own in by_seed for job in own}.values())
    if args.plan:
        from mprm_jax.commands.reproduction.plan import plan, plan_text

        print(plan_text(plan(root, store, configs, jobs, args.points_per_second)))
        return
    claim(setting, store)
    writing, failed = threading.Lock(), threading.Event()

    def report() -> pathlib.Path:
        with writing:
            return write_report(setting, store, range(args.seeds), jobs)

    def work(own: list[Job]) -> None:
        for job in own:
            if not job.result.exists() and not failed.is_set():
                print(f"[{jobs.index(job) + 1}/{len(jobs)}] {job.title}", flush=True)
                run_timed(job, root)
                report()

    shared = [job for job in jobs if all(job in own for own in by_seed)]
    work(shared if len(by_seed) > 1 else [])
    with concurrent.futures.ThreadPoolExecutor(args.parallel) as pool:
        for done in [pool.submit(work, own) for own in by_seed]:
            try:
                done.result()
            except BaseException:
                failed.set()
                raise
    print(f"report: {report()}")


def _jobs(setting: Setting, seed: int, groups: Sequence[str], epochs: int) -> list[Job]:
    """All jobs of a seed, each once."""
    jobs = make_jobs(setting, [seed], groups)
    if "ladder" in groups:
        jobs += ladder_jobs(setting, seed, epochs)
    return list({job.result: job for job in jobs}.values())
