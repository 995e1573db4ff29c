"""Making rooms: seconds of one core for each scene of a size, in all and by stage.

    python benchmarks/rooms.py --size full --output benchmarks/results/rooms.json

Each scene is made twice: first as it is, then under a profiler, which says what share of the first
time each stage takes. Seconds are this process's own, so that others on the machine count little.
"""

import argparse
import cProfile
import pathlib
import pstats
import statistics
import tempfile
import time

from processes import print_row, rounded, write_report

from mprm_jax.machine import keep_heap
from mprm_jax.progress import progress_bar
from mprm_jax.rooms import SIZES, VERSION
from mprm_jax.rooms.generate import num_scenes, scan_scene, write_scan

# Functions of `mprm_jax.rooms`, none of which calls another.
STAGES = {
    "furnish": ("furnished", "_room_parts"),
    "triangles": ("tessellate",),
    "what is seen": ("seen",),
    "holes": ("holes", "kept"),
    "paint": ("paint",),
    "segments": ("segment_ids", "annotated_groups"),
    "shake": ("shaken", "_turned"),
    "write": ("write_scan",),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=20, help="spread over the size (default: 20)")
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    args = parser.parse_args()
    keep_heap()  # as the processes that make rooms do
    write_report(args.output, [print_row(measure(args.size, args.seed, args.scenes))])


def measure(size: str, seed: int, count: int) -> dict:
    """Returns seconds a scene, in all and by stage, over `count` scenes of a size."""
    total = num_scenes(size)
    scenes = [i * total // count for i in range(min(count, total))]
    make(size, seed, scenes[0])  # what is done once in a process
    profile, seconds, vertices = cProfile.Profile(), [], []
    with progress_bar(len(scenes), "scenes", "making rooms") as bar:
        for index in scenes:
            start = time.process_time()
            vertices.append(make(size, seed, index))
            seconds.append(time.process_time() - start)
            profile.runcall(make, size, seed, index)
            bar.update()
    functions = pstats.Stats(profile).get_stats_profile().func_profiles
    scale = statistics.mean(seconds) / functions["make"].cumtime
    stages = {
        stage: scale * sum(functions[name].cumtime for name in names)
        for stage, names in STAGES.items()
    }
    return {
        "rooms": {"version": VERSION, "size": size, "seed": seed},
        "scenes": len(scenes),
        "vertices_per_scene": round(statistics.mean(vertices)),
        "seconds_per_scene": rounded({"mean": statistics.mean(seconds), "max": max(seconds)}, 3),
        "seconds_by_stage": rounded(stages, 3),
    }


def make(size: str, seed: int, index: int) -> int:
    """Makes and writes a scene, and returns how many vertices it has."""
    scan = scan_scene(size, seed, index)
    with tempfile.TemporaryDirectory() as folder:
        write_scan(pathlib.Path(folder), "scene", scan, annotated=True)
    return len(scan.points)


if __name__ == "__main__":
    main()
