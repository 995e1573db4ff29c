"""Runs the paper's experiments on a data set and writes a report; see --help."""

import pathlib

from mprm_jax.commands.commandline import check_devices, make_parser, resolve_config
from mprm_jax.commands.jobs import run_job
from mprm_jax.commands.reproduction.jobs import (
    GROUPS,
    Setting,
    claim,
    is_report_of,
    make_jobs,
)
from mprm_jax.errors import UserError

DESCRIPTION = """\
Runs the paper's experiments on a data set and writes one report, as Markdown and as HTML.

Tag statistics (Table 1), pseudo-labels of PCAM and MPRM from scene and subcloud tags, with and
without the CRF (Table 2), paths and fusion (Table 3), the validation split before and after
retraining (Table 4), full supervision (Table 5), pictures and cost, over several seeds. The report
is written anew after every step; what is not measured yet stays blank. The same command continues
where it stopped."""

EXAMPLES = """\
examples:
  mprm reproduce
  mprm reproduce --seeds 1 --only labels
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
        "paths: Table 3, retraining: Tables 4 and 5",
    )
    parser.add_argument("--devices", type=int, help="as in mprm train")
    args = parser.parse_args()
    check_devices(args.devices)
    if args.seeds < 1:
        raise UserError(f"--seeds {args.seeds}: give 1 or more.")
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
    claim(setting, store)
    jobs = make_jobs(setting, range(args.seeds), args.only)
    for number, job in enumerate(jobs, start=1):
        if not job.result.exists():
            print(f"[{number}/{len(jobs)}] {job.title}", flush=True)
            run_job(job)
            write_report(setting, store, range(args.seeds), jobs)
    print(f"report: {write_report(setting, store, range(args.seeds), jobs)}")
