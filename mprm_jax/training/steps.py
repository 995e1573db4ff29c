"""One training step and one prediction, each a single program over all devices."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mprm_jax.batches.bare_buckets import BareBatch
from mprm_jax.config import Config
from mprm_jax.training.inputs import complete, overflow_metrics
from mprm_jax.training.parallel import host_device
from mprm_jax.training.stages import Stage
from mprm_jax.types import DATA_AXIS, Array, Batch, Ratio

STEP_NAME = "train_step"  # of the program, for logs and for counting its compilations


class TrainState(NamedTuple):
    """All that changes during training; with the seed, `step` determines every random key."""

    step: Array  # [] int32
    params: Any
    batch_stats: Any
    opt_state: Any
    averages: Any  # over the steps, of params and batch_stats; {} without `optim.ema`

    @property
    def variables(self) -> dict[str, Any]:
        """What the network is used with: the averages, or what the last step left."""
        return self.averages or {"params": self.params, "batch_stats": self.batch_stats}


def init_state(
    stage: Stage,
    optimizer: optax.GradientTransformation,
    batch: Batch,
    seed: int,
    *,
    averages: bool = False,
) -> TrainState:
    """A fresh state on the CPU, the same for all kinds of devices.

    Args:
      batch: any bucket of the run's shape; its values do not matter.
      averages: keep some, `optim.ema` is not 0.
    """

    init = functools.partial(_init, stage, optimizer, averages)
    # Runs once: unoptimized, the generators of all parameters compile five times faster, and on
    # the CPU several times faster than on a GPU.
    compiled = jax.jit(init, compiler_options={"xla_backend_optimization_level": 0})
    with jax.default_device(host_device()):
        return compiled(jax.random.key(seed), batch)


def state_shapes(
    stage: Stage, optimizer: optax.GradientTransformation, batch: Batch, *, averages: bool = False
) -> TrainState:
    """Shapes and types of a state, without computing one; arguments as of `init_state`."""
    init = functools.partial(_init, stage, optimizer, averages)
    return jax.eval_shape(init, jax.random.key(0), batch)


def _init(
    stage: Stage,
    optimizer: optax.GradientTransformation,
    averages: bool,
    key: Array,
    batch: Batch,
) -> TrainState:
    # Not in training: no collective, so that this runs outside of the mesh.
    variables = stage.model.init(key, batch.pyramid, batch.features)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    state = TrainState(jnp.int32(0), params, batch_stats, optimizer.init(params), {})
    return state._replace(averages=jax.tree.map(jnp.copy, state.variables)) if averages else state


def make_train_step(
    stage: Stage,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    config: Config,
) -> Callable[[TrainState, Batch | BareBatch], tuple[TrainState, dict[str, Array]]]:
    """Returns step(state, buckets) -> (state, metrics); the given state is consumed.

    The result does not depend on the number of devices, but for the rounding of sums.

    Args:
      mesh: of `step_mesh`, so that its devices share `pyramid.buckets_per_step` evenly.
      config: `optim.offset_loss` weighs the losses that modules sow, fitting and repulsion.
    """
    buckets_per_device = config.pyramid.buckets_per_step // mesh.size

    def train_step(
        state: TrainState, bucket: Batch | BareBatch
    ) -> tuple[TrainState, dict[str, Array]]:
        batch, overflow = complete(bucket, buckets_per_device)

        def loss_fn(params: Any) -> tuple[Array, _Losses]:
            weight = config.optim.offset_loss
            found = _losses(stage, state, params, batch, config.seed)
            return sum(found.means.values()) + weight * sum(found.sown.values()), found

        grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, found), grads = grad_fn(state.params)
        # The sums inside the loss already span the devices: reference gradient_rule, row two.
        grads = jax.lax.pmean(grads, DATA_AXIS)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": loss,
            **{f"loss/{name}": mean for name, mean in (found.means | found.sown).items()},
            **found.metrics,
            "norm/gradient": optax.tree.norm(grads),
            "norm/parameters": optax.tree.norm(params),
            "norm/update": optax.tree.norm(updates),
            **jax.lax.psum(overflow_metrics(overflow), DATA_AXIS),
        }
        new = TrainState(state.step + 1, params, found.batch_stats, opt_state, {})
        return new._replace(averages=_averages(state, new, config.optim.ema)), metrics

    sharded, whole = jax.P(DATA_AXIS), jax.P()
    mapped = jax.shard_map(train_step, mesh=mesh, in_specs=(whole, sharded), out_specs=whole)
    return jax.jit(mapped, donate_argnums=0)


def _averages(old: TrainState, new: TrainState, ema: float) -> Any:
    """Moving averages after a step, {} if `ema` is 0.

    Over few steps at first, so that they soon forget the weights that were drawn.

    Source: TensorFlow's ExponentialMovingAverage, num_updates.
    """
    if not ema:
        return {}
    keep = jnp.minimum(ema, (1 + old.step) / (10 + old.step))
    return optax.incremental_update(new.variables, old.averages, 1 - keep)


class _Losses(NamedTuple):
    """Means over all devices, and the statistics updated on the way."""

    means: dict[str, Array]  # losses of the stage
    sown: dict[str, Array]  # losses of modules
    metrics: dict[str, Array]  # of the stage, and shares of modules
    batch_stats: Any


def _losses(stage: Stage, state: TrainState, params: Any, batch: Batch, seed: int) -> _Losses:
    """The losses of a bucket, with `params` in place of those of the state."""
    # The same on all devices: what is drawn from it differs by cloud, see `ops.dropout`.
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    output, updated = stage.model.apply(
        {"params": params, "batch_stats": state.batch_stats},
        batch.pyramid,
        batch.features,
        train=True,
        rngs={"dropout": key},
        mutable=["batch_stats", "losses", "shares"],
    )
    shares = device_means(sown_ratios(updated.get("shares", {})))
    return _Losses(
        device_means(stage.losses(output, batch)),
        device_means(sown_ratios(updated.get("losses", {}))),
        device_means(stage.metrics(output, batch)) | {f"share/{k}": v for k, v in shares.items()},
        updated.get("batch_stats", {}),
    )


class Predicted(NamedTuple):
    """What a network says of the buckets of all devices."""

    values: Any  # arrays concatenated along the first axis
    overflow: dict[str, Array]  # of `overflow_metrics`, [num_devices]: what did not fit


def make_predict_step(
    predict: Callable[[Any, Batch], Any], mesh: jax.sharding.Mesh
) -> Callable[[TrainState, Batch | BareBatch], Predicted]:
    """Returns predict(state, buckets), which takes one bucket per device.

    Args:
      predict: (variables, bucket) -> arrays with rows or clouds of the bucket first.
    """

    def step(state: TrainState, bucket: Batch | BareBatch) -> Predicted:
        batch, overflow = complete(bucket, 1)
        counts = {name: count[None] for name, count in overflow_metrics(overflow).items()}
        return Predicted(predict(state.variables, batch), counts)

    sharded, whole = jax.P(DATA_AXIS), jax.P()
    return jax.jit(jax.shard_map(step, mesh=mesh, in_specs=(whole, sharded), out_specs=sharded))


def device_means(terms: dict[str, Ratio]) -> dict[str, Array]:
    """Each ratio as one number, its parts summed over the devices first."""
    summed = jax.lax.psum(terms, DATA_AXIS)
    return {name: term.total / jnp.maximum(term.count, 1.0) for name, term in summed.items()}


def sown_ratios(collection: Any) -> dict[str, Ratio]:
    """The ratios that modules sowed into a collection, one entry per module and name."""
    found = jax.tree_util.tree_leaves_with_path(collection, is_leaf=lambda x: isinstance(x, Ratio))
    return {_sown_name(path): ratio for path, ratio in found}


def _sown_name(path: tuple[Any, ...]) -> str:
    """ "block/conv/fitting" of a path of dictionary keys that ends in a sown tuple."""
    return "/".join(entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey))
