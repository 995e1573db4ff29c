"""The training loop: takes a stage and its data, leaves checkpoints and metrics in a directory."""

import contextlib
import dataclasses
import logging
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax

from mprm_jax.batches.balls import Balls
from mprm_jax.batches.loader import Loader
from mprm_jax.batches.plan import epoch_plan
from mprm_jax.config import Config, to_values
from mprm_jax.errors import UserError
from mprm_jax.training.agreement import INTERRUPT, SAVE, Decisions
from mprm_jax.training.checkpoints import Checkpoints
from mprm_jax.training.forecast import Forecast, counted_compiles, log_plan, step_cost
from mprm_jax.training.hosts import is_first_host
from mprm_jax.training.optimizer import make_optimizer, make_schedule
from mprm_jax.training.parallel import local_buckets, replicate, shard_batch, spread_shapes
from mprm_jax.training.recorder import Journal, Recorder, Window
from mprm_jax.training.rounds import with_weights_of
from mprm_jax.training.signals import StoppedError, StopRequest
from mprm_jax.training.stages import Stage
from mprm_jax.training.steps import STEP_NAME, TrainState, init_state, make_train_step
from mprm_jax.training.workdir import note_seconds, require_same_settings, seconds_before

logger = logging.getLogger(__name__)

_COUNTED_EPOCHS = 24  # a multiple of the usual numbers of passes, `Balls.passes`


class Position(NamedTuple):
    """Where a run stands: `buckets` of the plan of `epoch` are done, and `step` steps in all."""

    epoch: int = 0
    buckets: int = 0
    step: int = 0


class Validation(NamedTuple):
    """What is measured between epochs."""

    measure: Callable[[TrainState], dict[str, float]]
    score: str  # name of the measure by which a checkpoint is the best; the higher, the better


def fit(
    stage: Stage,
    train: Balls,
    validation: Validation | None,
    config: Config,
    mesh: jax.sharding.Mesh,
    workdir: pathlib.Path,
    *,
    start_from: pathlib.Path | None = None,
) -> TrainState:
    """Trains to the end of the last epoch, from the newest checkpoint in `workdir` if there is one.

    Args:
      start_from: work directory of a run whose weights a new run starts from; anew if None.
      validation: None if the data has nothing to validate on.
      config: calibrated.

    Raises:
      ValueError: a loss was not finite, or a checkpoint is of other settings.
      OSError: the disk is full, or an input worker was killed.
      StoppedError: SIGTERM or Ctrl-C on any host, after all have written a checkpoint.
    """
    length = count_steps(train, config)
    train.keep(config.data.keep_gb)
    # Of the epochs that the settings count: with more of them, the schedule is stretched.
    steps_per_epoch = length.steps / config.optim.epochs
    optimizer = make_optimizer(config, steps_per_epoch)
    step_fn = make_train_step(stage, optimizer, mesh, config)
    with (
        StopRequest() as stop,
        Loader(train, config) as loader,
        Checkpoints(workdir / "checkpoints", config.log.keep_last) as checkpoints,
        counted_compiles(STEP_NAME) as compiles,
    ):
        averages = config.optim.ema > 0
        fresh = init_state(stage, optimizer, loader.example(), config.seed, averages=averages)
        if start_from is not None and not checkpoints.has_any():
            fresh = with_weights_of(start_from, fresh, mesh)
        state, position = _restored(checkpoints, replicate(fresh, mesh), config)
        if position.epoch == length.epochs:
            return state
        _log_plans(train, config, loader, position, length)
        forecast = _forecast(step_fn, state, loader, config, mesh, length.steps - position.step)
        with _recorder(workdir, position, length) as recorder:
            run = _Run(
                train_set=train,
                config=config,
                mesh=mesh,
                workdir=workdir,
                num_epochs=length.epochs,
                step_fn=step_fn,
                loader=loader,
                checkpoints=checkpoints,
                journal=Journal(
                    recorder,
                    _window(loader, config),
                    forecast,
                    make_schedule(config, steps_per_epoch),
                    train.name,
                    compiles,
                ),
                decisions=Decisions(mesh, stop, config.log.save_minutes),
                state=state,
                position=position,
            )
            try:
                run.train(validation)
            except ChildProcessError:
                # A SIGTERM to the whole process group ends input workers that are just starting.
                if jax.process_count() > 1 or not stop.wait():
                    raise
                run.leave()
        return run.state


class Length(NamedTuple):
    """How long a run is."""

    epochs: int
    steps: int


def count_steps(train: Balls, config: Config) -> Length:
    """Epochs, added to until they have `optim.min_steps`, and steps of all of them.

    Steps of late epochs are taken for the mean of the first.
    """
    optim, counted = config.optim, []
    while len(counted) < min(optim.epochs, _COUNTED_EPOCHS) or sum(counted) < optim.min_steps:
        counted.append(len(_plan(train, config, len(counted))))
    epochs = max(optim.epochs, len(counted))
    return Length(epochs, round(sum(counted) * epochs / len(counted)))


@dataclasses.dataclass
class _Run:
    """One host's share of a training run: what it works with, and where it stands."""

    train_set: Balls
    config: Config
    mesh: jax.sharding.Mesh
    workdir: pathlib.Path
    num_epochs: int
    step_fn: Callable[[TrainState, Any], tuple[TrainState, dict[str, Any]]]
    loader: Loader
    checkpoints: Checkpoints
    journal: Journal
    decisions: Decisions
    state: TrainState
    position: Position

    def __post_init__(self):
        self._start = time.monotonic() - seconds_before(self.workdir)
        self.journal.restart()

    def train(self, validation: Validation | None) -> None:
        """Trains all epochs that are left."""
        for epoch in range(self.position.epoch, self.num_epochs):
            self._steps(epoch)
            self.position = Position(epoch + 1, 0, self.position.step)
            self._end(epoch, validation)
        self.journal.end()

    def leave(self) -> NoReturn:
        """Saves, and ends the run for the signal that was received."""
        if self.decisions.now < INTERRUPT:
            self.decisions.after_step()
        self._save(None)
        raise StoppedError(f"{self.decisions.signal}: saved step {self.position.step}")

    def _steps(self, epoch: int) -> None:
        """The steps of an epoch that are left."""
        steps = _plan(self.train_set, self.config, epoch)
        buckets_per_step = self.config.pyramid.buckets_per_step
        left = local_buckets(steps[self.position.buckets // buckets_per_step :], self.mesh)
        for loaded in self.loader.load(left, epoch):
            with jax.transfer_guard("disallow"):  # values move where the code says so
                batch = shard_batch(loaded.batch, self.mesh)
                self.state, metrics = self.step_fn(self.state, batch)
                done = self.position.buckets + buckets_per_step
                self.position = Position(epoch, done, self.position.step + 1)
                self.journal.after_step(self.position.step, metrics, loaded)
                decision = self.decisions.after_step()
            if self.journal.num_steps == self.config.log.every_steps:
                self._log()
            if done == len(steps) * buckets_per_step:
                return  # the end of an epoch saves by itself
            if decision >= INTERRUPT:
                self.leave()
            elif decision == SAVE:
                self._save(None)

    def _end(self, epoch: int, validation: Validation | None) -> None:
        """Validates and saves after an epoch of the settings, of which several may be one."""
        last = epoch + 1 == self.num_epochs
        before, ended = self._ended(epoch), self._ended(epoch + 1)
        if ended > before:
            self._log()
            every = self.config.log.eval_epochs
            due = last or ended // every > before // every
            self._save(self._evaluate(validation) if validation and due else None)
            self.decisions.after_step()
        elif self.decisions.now == SAVE:
            self._save(None)
        if self.decisions.now >= INTERRUPT and not last:
            self.leave()

    def _ended(self, num_epochs: int) -> int:
        """How many epochs of the settings are over after some epochs of the run.

        Where epochs were added, several are one of the settings, so that validations and
        checkpoints do not become more.
        """
        return num_epochs * self.config.optim.epochs // self.num_epochs

    def _evaluate(self, validation: Validation) -> float:
        values = validation.measure(self.state)
        self.journal.write(self.position.step, values)
        score = values[validation.score]
        logger.info(
            "epoch %d: %s of the validation %.3f", self.position.epoch, validation.score, score
        )
        return score

    def _log(self) -> None:
        # Between epochs, the position is at the start of the next one.
        self.journal.log(self.position.step, self.position.epoch + 1)

    def _save(self, score: float | None) -> None:
        self._log()
        notes = {"position": self.position._asdict(), "settings": to_values(self.config)}
        self.checkpoints.save(self.position.step, self.state, notes, score)
        self.decisions.has_saved()
        if is_first_host():
            note_seconds(self.workdir, time.monotonic() - self._start)
        self.journal.restart()


def _plan(train: Balls, config: Config, epoch: int) -> list[list[list[int]]]:
    """Steps of an epoch, the same on every host."""
    return epoch_plan(
        train.passes,
        train.num_points,
        draws=config.data.epoch_subclouds,
        max_points=config.pyramid.bucket_points,
        max_clouds=config.pyramid.max_clouds,
        buckets_per_step=config.pyramid.buckets_per_step,
        seed=config.seed,
        epoch=epoch,
    )


def _restored(
    checkpoints: Checkpoints, fresh: TrainState, config: Config
) -> tuple[TrainState, Position]:
    """The newest checkpoint, or a fresh state if there is none."""

    def check(notes: dict[str, Any]) -> None:
        require_same_settings(checkpoints.directory, notes["settings"], config)

    found = checkpoints.restore_latest(fresh, check)
    if found is None:
        return fresh, Position()
    position = _position(found.notes, config.pyramid.buckets_per_step)
    logger.info("resuming at step %d (epoch %d)", position.step, position.epoch + 1)
    return found.state, position


def _log_plans(
    train: Balls, config: Config, loader: Loader, position: Position, length: Length
) -> None:
    log_plan(loader.shape, _plan(train, config, position.epoch))
    if length.epochs > config.optim.epochs:
        logger.info(
            "%d epochs instead of optim.epochs=%d, so that there are optim.min_steps=%d steps",
            length.epochs,
            config.optim.epochs,
            config.optim.min_steps,
        )
    logger.info("compiling the training step; this can take a minute")


def _forecast(
    step_fn: Callable[..., Any],
    state: TrainState,
    loader: Loader,
    config: Config,
    mesh: jax.sharding.Mesh,
    num_steps: int,
) -> Forecast:
    """Compiles the step, and says what is known of those that are left."""
    shapes = spread_shapes(loader.empty(), mesh, config.pyramid.buckets_per_step)
    return Forecast(step_cost(step_fn, state, shapes), num_steps, mesh.local_devices[0])


def _recorder(
    workdir: pathlib.Path, position: Position, length: Length
) -> contextlib.AbstractContextManager[Recorder | None]:
    if is_first_host():
        return Recorder(workdir, position.step, length.steps)
    return contextlib.nullcontext()


def _window(loader: Loader, config: Config) -> Window:
    buckets_here = config.pyramid.buckets_per_step // jax.process_count()
    return Window(loader.shape.rows[0] * buckets_here, num_hosts=jax.process_count())


def _position(notes: dict[str, Any], buckets_per_step: int) -> Position:
    """The position that a checkpoint notes; earlier versions counted the steps of an epoch."""
    found = dict(notes["position"])
    if "epoch_step" in found:
        found["buckets"] = found.pop("epoch_step") * buckets_per_step
    if found.keys() != set(Position._fields):
        names = ", ".join(sorted(found.keys() ^ set(Position._fields)))
        raise UserError(
            f"the checkpoint notes another position ({names}): a newer version wrote it; update "
            "mprm_jax."
        )
    return Position(**found)
