"""Compiles training, mining and prediction for TPUs that need not be there. Nothing runs.

    pip install -e ".[tpu]"
    python benchmarks/tpu_compile.py --output benchmarks/results/tpu_compile.json

Per topology, preset and program: compile time on this machine, memory of a chip, bytes and FLOP of
its bucket, exchanges between chips, and the least time that the bytes take at the chip's memory
bandwidth. A topology such as v5e:16x16 is a pod of 256 chips. Each compile takes minutes; what
the report has already is not compiled again.
"""

import argparse
import itertools
import json
import pathlib

from cost import measure, target_devices
from processes import print_row, rounded, write_report
from programs import PROGRAMS

from mprm_jax.presets import PRESETS

BANDWIDTH = {"v4": 1228, "v5e": 819, "v5p": 2765, "v6e": 1640}  # GB/s of a chip, Google Cloud docs
_TOPOLOGIES = ("v5e:2x2", "v6e:2x2", "v5e:4x4", "v5e:16x16")
_KEY = ("topology", "preset", "program", "settings")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topologies", nargs="+", default=_TOPOLOGIES, help="v5e:2x2 ...")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=["quick", "paper"])
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=PROGRAMS)
    parser.add_argument("--set", nargs="*", default=["pyramid.builder=device"])
    parser.add_argument("--output", type=pathlib.Path, help="JSON report, which is gone on with")
    args = parser.parse_args()
    if unknown := {chip_of(name) for name in args.topologies} - BANDWIDTH.keys():
        parser.error(f"--topologies: of {', '.join(sorted(unknown))} no bandwidth is known here")
    rows = []
    if args.output is not None and args.output.exists():
        rows = json.loads(args.output.read_text(encoding="utf-8"))["measures"]
    done = {tuple(row[name] for name in _KEY) for row in rows}
    settings = tuple(args.set)
    for cell in itertools.product(args.topologies, args.presets, args.programs):
        topology, preset, program = cell
        if (*cell, " ".join(settings)) in done:
            continue
        found = measure(program, preset, settings, target_devices(topology))
        least = 1000 * found["gb"] / BANDWIDTH[chip_of(topology)]
        row = {"topology": topology} | found | rounded({"bandwidth_ms": least})
        rows.append(print_row(row))
        write_report(args.output, rows)


def chip_of(topology: str) -> str:
    """ "v5e" of "v5e:2x2"."""
    return topology.partition(":")[0]


if __name__ == "__main__":
    main()
