"""Times a training step of the PyTorch peer on stored clouds and weights.

    python benchmarks/peers/torch_step.py inputs.npz SETTINGS_JSON REPEATS

Needs PyTorch and NumPy only. Prints one JSON object: losses of the first step, times, memory.
`benchmarks/accelerator.py` calls `measure` for the device that is there.
"""

import json
import pathlib
import statistics
import sys
import time

import numpy as np
import torch
from torch_mprm import Clouds, Mprm, Settings

OFFSET_LOSS, OFFSET_RATE, CLIP_NORM = 0.1, 0.1, 100.0
LEARNING_RATE, MOMENTUM, DECAY = 0.01, 0.98, 1e-3
DECAYED = ("weights", "kernel", "offset_weights")
STATUS, CLEAR = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")


def main() -> None:
    path, settings, repeats = sys.argv[1:]
    print(json.dumps(measure(dict(np.load(path)), json.loads(settings), int(repeats))))


def measure(
    arrays: dict, settings: dict, repeats: int, device: str = "cpu", *, bfloat16: bool = False
) -> dict:
    """Losses of the first step, the median time of later ones, and the peak memory.

    Args:
      arrays: of an archive of `step_peer.store`.
      bfloat16: products by autocast.
    """
    torch.set_default_device(device)
    parameters = {
        name.removeprefix("parameter/"): torch.tensor(x, requires_grad=True)
        for name, x in arrays.items()
        if name.startswith("parameter/")
    }
    values = settings | {"paths": tuple(settings["paths"])}
    network = Mprm(parameters, torch.tensor(arrays["kernel"]), Settings(**values))
    clouds, optimizer = read_clouds(arrays), make_optimizer(parameters)
    narrow = torch.autocast(device, torch.bfloat16, enabled=bfloat16)
    first = step(network, clouds, optimizer, narrow)
    first["norm/gradient"] = float(
        torch.sqrt(sum(x.grad.square().sum() for x in parameters.values()))
    )
    first = {name: float(value) for name, value in first.items()}
    step(network, clouds, optimizer, narrow)
    restart_peak()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        float(step(network, clouds, optimizer, narrow)["loss"])  # waits for the device
        times.append(time.perf_counter() - start)
    return {
        "first": first,
        "seconds": statistics.median(times),
        "peak_mb": peak_memory_mb(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def read_clouds(arrays: dict) -> Clouds:
    """The batch of an archive."""
    levels = sum(name.startswith("points_") for name in arrays)
    ends = np.cumsum(arrays["top_sizes"])
    return Clouds(
        points=[torch.tensor(arrays[f"points_{i}"]) for i in range(levels)],
        neighbors=[torch.tensor(arrays[f"neighbors_{i}"]).long() for i in range(levels)],
        pools=[torch.tensor(arrays[f"pools_{i}"]).long() for i in range(levels - 1)],
        features=torch.tensor(arrays["features"]),
        top_clouds=[slice(e - n, e) for e, n in zip(ends, arrays["top_sizes"], strict=True)],
        labels=torch.tensor(arrays["labels"]).float(),
    )


def make_optimizer(parameters: dict[str, torch.Tensor]) -> torch.optim.SGD:
    """SGD with decay of weights only, and slow offsets."""
    groups = []
    for name, value in parameters.items():
        kind = name.rsplit("/", 1)[-1]
        rate = LEARNING_RATE * (OFFSET_RATE if kind.startswith("offset_") else 1.0)
        decay = DECAY if kind in DECAYED else 0.0
        groups.append({"params": [value], "lr": rate, "weight_decay": decay})
    return torch.optim.SGD(groups, lr=LEARNING_RATE, momentum=MOMENTUM)


def step(
    network: Mprm, clouds: Clouds, optimizer: torch.optim.SGD, narrow: torch.autocast
) -> dict[str, torch.Tensor]:
    """One step; all losses, detached."""
    optimizer.zero_grad(set_to_none=True)
    with narrow:
        means, sown = network.losses(clouds)
    loss = sum(means.values()) + OFFSET_LOSS * sum(sown.values())
    loss.backward()
    for value in network.p.values():
        torch.nn.utils.clip_grad_norm_([value], CLIP_NORM)
    optimizer.step()
    found = {f"loss/{name}": value.detach() for name, value in (means | sown).items()}
    return found | {"loss": loss.detach()}


def restart_peak() -> None:
    """Forgets the peak memory so far, where the system allows it."""
    try:
        CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return


def peak_memory_mb() -> float:
    """Most memory this process has held, in MB."""
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
