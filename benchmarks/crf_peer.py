"""Runs pydensecrf on stored inputs; needs only NumPy and pydensecrf, in any Python.

    python benchmarks/crf_peer.py inputs.npz outputs.npz --iterations 5 10

Inputs: `unary` [N, C], `weights` [K], and `kernel_0` ... [N, d] features in kernel widths.
"""

import argparse
import pathlib
import time

import numpy as np
import pydensecrf.densecrf as dcrf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", type=pathlib.Path)
    parser.add_argument("outputs", type=pathlib.Path)
    parser.add_argument("--iterations", type=int, nargs="+", default=[5])
    args = parser.parse_args()
    inputs = dict(np.load(args.inputs))
    before = peak_memory()
    outputs = {}
    for iterations in args.iterations:
        start = time.perf_counter()
        crf = dcrf.DenseCRF(*inputs["unary"].shape)
        crf.setUnaryEnergy(np.ascontiguousarray(inputs["unary"].T))
        for k, weight in enumerate(inputs["weights"]):
            features = np.ascontiguousarray(inputs[f"kernel_{k}"].T)
            crf.addPairwiseEnergy(features, compat=float(weight))
        built = time.perf_counter()
        marginals = np.array(crf.inference(iterations)).T
        done = time.perf_counter()
        outputs |= {
            f"build_{iterations}": built - start,
            f"iterate_{iterations}": done - built,
            f"marginals_{iterations}": marginals,
        }
    np.savez(args.outputs, memory=peak_memory() - before, peak=peak_memory(), **outputs)


def peak_memory() -> float:
    """Most memory this process has used, in MB."""
    with open("/proc/self/status", encoding="utf-8") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
