"""What a step costs by module of the network, as compiled: bytes, FLOP, kernels, temporaries.

Nothing runs, so that it needs no accelerator, and the same version of JAX always counts the same:

    python benchmarks/cost.py
    python benchmarks/cost.py --presets paper --programs "train cls" --target v5e:2x2

A target such as v5e:2x2 is compiled ahead of time (`pip install -e ".[tpu]"`), for one of its
chips; see `tpu_compile.py` for whole machines.
"""

import argparse
import collections
import importlib.util
import itertools
import os
import pathlib
import time

import jax
from processes import print_row, rounded, write_report
from program_costs import Costs, Program
from programs import PROGRAMS, lower

from mprm_jax.presets import PRESETS

_DEPTH = 2  # of modules: encoder/level0_block
_LARGEST = 5  # results named


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=["quick", "paper"])
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=PROGRAMS)
    parser.add_argument("--target", default="cpu", help="cpu, or a TPU: v5e:2x2, v6e:2x2 ...")
    parser.add_argument("--set", nargs="*", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    args = parser.parse_args()
    devices = target_devices(args.target)[:1]
    rows = []
    for preset, program in itertools.product(args.presets, args.programs):
        row = measure(program, preset, tuple(args.set), devices)
        rows.append(print_row({"target": args.target, **row}))
        write_report(args.output, rows)


def target_devices(target: str) -> list[jax.Device]:
    """Devices to compile for, which a TPU need not be there for."""
    if target == "cpu":
        return jax.local_devices(backend="cpu")
    if importlib.util.find_spec("libtpu") is None:
        raise SystemExit(f'{target}: no compiler for TPUs here; pip install -e ".[tpu]"')
    from jax.experimental import topologies

    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no machine to ask
    return list(topologies.get_topology_desc(topology_name=target, platform="tpu").devices)


def measure(
    program: str, preset: str, settings: tuple[str, ...], devices: list[jax.Device]
) -> dict:
    """Compiles a program and counts what it takes on each device."""
    found = lower(program, preset, settings, devices)
    start = time.perf_counter()
    compiled = found.lowered.compile()
    seconds = time.perf_counter() - start
    memory = compiled.memory_analysis()
    whole = compiled.cost_analysis() or {}
    text = Program(compiled.as_text())
    modules = text.by_module()
    return rounded(
        {
            "preset": preset,
            "program": program,
            "settings": " ".join(settings),
            "builder": found.config.pyramid.builder,
            "devices": len(devices),
            "rows": [found.config.pyramid.bucket_points, *found.config.pyramid.coarse_points],
            "neighbors": list(found.config.pyramid.conv_neighbors),
            "compile_s": seconds,
            "trace_s": found.seconds,
            "arguments_mb": memory.argument_size_in_bytes / 1e6,
            "temporaries_mb": memory.temp_size_in_bytes / 1e6,
            "compiler_gb": whole.get("bytes accessed", 0.0) / 1e9,
            "compiler_gflop": whole.get("flops", 0.0) / 1e9,
            "gb": sum(costs.bytes for costs in modules.values()) / 1e9,
            "gflop": sum(costs.flop for costs in modules.values()) / 1e9,
            "kernels": sum(costs.kernels for costs in modules.values()),
            "collectives": text.collectives(),
            "modules": _by_depth(modules),
            "largest": [
                {"mb": size / 1e6, "shape": shape, "module": module}
                for size, shape, module in text.largest(_LARGEST)
            ],
        }
    )


def _by_depth(modules: dict[str, Costs]) -> dict[str, dict[str, float]]:
    """MB, MFLOP and kernels of each module and all below it."""
    found: dict[str, Costs] = collections.defaultdict(Costs)
    for module, costs in modules.items():
        name = "/".join(module.split("/")[:_DEPTH]) or "outside of the network"
        found[name].add(costs.bytes, costs.flop, costs.kernels)
    found = dict(sorted(found.items(), key=lambda item: -item[1].bytes))
    return {
        name: {"mb": costs.bytes / 1e6, "mflop": costs.flop / 1e6, "kernels": costs.kernels}
        for name, costs in found.items()
    }


if __name__ == "__main__":
    main()
