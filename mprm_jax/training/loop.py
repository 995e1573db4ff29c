"""The training loop: takes a stage and its data, leaves checkpoints and metrics in a directory."""

import logging
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from mprm_jax.batches.balls import Balls
from mprm_jax.batches.loader import LoadedBatch, Loader
from mprm_jax.batches.plan import epoch_plan
from mprm_jax.config import Config, to_values
from mprm_jax.errors import UserError
from mprm_jax.training.agreement import INTERRUPT, NOTHING, SAVE, SIGNALS, Agreement
from mprm_jax.training.checkpoints import Checkpoints
from mprm_jax.training.forecast import Forecast, counted_compiles, log_plan, step_cost
from mprm_jax.training.hosts import is_first_host
from mprm_jax.training.optimizer import make_optimizer, make_schedule
from mprm_jax.training.parallel import local_buckets, replicate, shard_batch, spread_shapes
from mprm_jax.training.recorder import NoRecorder, Recorder
from mprm_jax.training.signals import StoppedError, StopRequest
from mprm_jax.training.spent import SpentTime
from mprm_jax.training.stages import Stage
from mprm_jax.training.steps import STEP_NAME, TrainState, init_state, make_train_step
from mprm_jax.training.window import Window
from mprm_jax.training.workdir import require_same_settings

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
) -> TrainState:
    """Trains to the end of the last epoch, from the newest checkpoint in `workdir` if there is one.

    Args:
      validation: None if the data has nothing to validate on.
      config: calibrated.

    Raises:
      ValueError: a loss was not finite, or a checkpoint is of other settings.
      OSError: the disk is full, or an input worker was killed.
      StoppedError: SIGTERM or Ctrl-C on any host, after all have written a checkpoint.
    """
    with (
        StopRequest() as stop,
        Loader(train, config) as loader,
        Checkpoints(workdir / "checkpoints", config.log.keep_last) as checkpoints,
        counted_compiles(STEP_NAME) as compiles,
    ):
        run = _Run(stage, train, config, mesh, loader, checkpoints, stop, workdir, compiles)
        run.restore()
        if run.position.epoch < run.num_epochs:
            progress = run.position.step, run.total_steps
            with Recorder(workdir, *progress) if is_first_host() else NoRecorder() as recorder:
                run.train(recorder, validation)
        return run.state


class _Run:
    """One process's share of a training run."""

    def __init__(
        self,
        stage: Stage,
        train: Balls,
        config: Config,
        mesh: jax.sharding.Mesh,
        loader: Loader,
        checkpoints: Checkpoints,
        stop: StopRequest,
        workdir: pathlib.Path,
        compiles: list[float],
    ):
        self.config, self.mesh, self.train_set = config, mesh, train
        self.loader, self.checkpoints, self.stop = loader, checkpoints, stop
        self.compiles = compiles  # of the step, one entry each
        self.num_epochs, self.total_steps = self._count_steps()
        # Of the epochs that the settings count: with more of them, the schedule is stretched.
        steps_per_epoch = self.total_steps / config.optim.epochs
        self.schedule = make_schedule(config, steps_per_epoch)
        optimizer = make_optimizer(config, steps_per_epoch)
        example = loader.example()
        self.state = replicate(init_state(stage, optimizer, example, config.seed), mesh)
        self.position = Position()
        self.step_fn = make_train_step(stage, optimizer, mesh, config)
        buckets_here = config.pyramid.buckets_per_step // jax.process_count()
        rows_per_step = loader.shape.rows[0] * buckets_here
        self.window = Window(rows_per_step, num_hosts=jax.process_count())
        self.agreement = Agreement(mesh)
        self.decision = NOTHING
        self.saved_at, self.wished_to_save = time.monotonic(), False
        self.spent = SpentTime(workdir)

    def plan(self, epoch: int) -> list[list[list[int]]]:
        """Steps of an epoch, the same on every host."""
        return epoch_plan(
            self.train_set.passes,
            self.train_set.num_points,
            draws=self.config.data.epoch_subclouds,
            max_points=self.config.pyramid.bucket_points,
            max_clouds=self.config.pyramid.max_clouds,
            buckets_per_step=self.config.pyramid.buckets_per_step,
            seed=self.config.seed,
            epoch=epoch,
        )

    def _count_steps(self) -> tuple[int, int]:
        """Epochs, added to until they have `optim.min_steps`, and steps of all of them.

        Steps of late epochs are taken for the mean of the first.
        """
        optim, counted = self.config.optim, []
        while len(counted) < min(optim.epochs, _COUNTED_EPOCHS) or sum(counted) < optim.min_steps:
            counted.append(len(self.plan(len(counted))))
        epochs = max(optim.epochs, len(counted))
        return epochs, round(sum(counted) * epochs / len(counted))

    def _ended(self, num_epochs: int) -> int:
        """How many epochs of the settings are over after some epochs of the run.

        Where epochs were added, several are one of the settings, so that validations and
        checkpoints do not become more.
        """
        return num_epochs * self.config.optim.epochs // self.num_epochs

    def restore(self) -> None:
        """Continues from the newest checkpoint, if there is one."""

        def check(notes: dict[str, Any]) -> None:
            require_same_settings(self.checkpoints.directory, notes["settings"], self.config)

        found = self.checkpoints.restore_latest(self.state, check)
        if found is not None:
            self.state = found.state
            self.position = _position(found.notes, self.config.pyramid.buckets_per_step)
            logger.info(
                "resuming at step %d (epoch %d)", self.position.step, self.position.epoch + 1
            )

    def train(self, recorder: Recorder, validation: Validation | None) -> None:
        """Trains all epochs that are left."""
        log_plan(self.loader.shape, self.plan(self.position.epoch))
        if self.num_epochs > self.config.optim.epochs:
            logger.info(
                "%d epochs instead of optim.epochs=%d, so that there are optim.min_steps=%d steps",
                *(self.num_epochs, self.config.optim.epochs, self.config.optim.min_steps),
            )
        logger.info("compiling the training step; this can take a minute")
        num_buckets = self.config.pyramid.buckets_per_step
        shapes = spread_shapes(self.loader.empty(), self.mesh, num_buckets)
        cost = step_cost(self.step_fn, self.state, shapes)
        left = self.total_steps - self.position.step
        self.forecast = Forecast(cost, left, self.mesh.local_devices[0])
        self.window.restart()
        try:
            for epoch in range(self.position.epoch, self.num_epochs):
                self._epoch(epoch, recorder, validation)
        except ChildProcessError:
            # A SIGTERM to the whole process group ends input workers that are just starting.
            if jax.process_count() > 1 or not self.stop.wait():
                raise
            self._leave(recorder)
        self.forecast.at_end()

    def _epoch(self, epoch: int, recorder: Recorder, validation: Validation | None) -> None:
        steps, buckets_per_step = self.plan(epoch), self.config.pyramid.buckets_per_step
        left = local_buckets(steps[self.position.buckets // buckets_per_step :], self.mesh)
        for loaded in self.loader.load(left, epoch):
            with jax.transfer_guard("disallow"):  # values move where the code says so
                self._step(loaded)
                self._decide()
            recorder.advance()
            if len(self.window) == self.config.log.every_steps:
                self._log(recorder)
            done = self.position.buckets == len(steps) * buckets_per_step
            if self.decision >= INTERRUPT and not done:
                self._leave(recorder)
            elif self.decision == SAVE and not done:
                self._save(recorder, None)
        self.position = Position(epoch + 1, 0, self.position.step)
        last = epoch + 1 == self.num_epochs
        before, ended = self._ended(epoch), self._ended(epoch + 1)
        if ended > before:
            self._log(recorder)
            every = self.config.log.eval_epochs
            due = last or ended // every > before // every
            score = self._evaluate(validation, recorder) if validation and due else None
            self._save(recorder, score)
            self._decide()
        elif self.decision == SAVE:
            self._save(recorder, None)
        if self.decision >= INTERRUPT and not last:
            self._leave(recorder)

    def _decide(self) -> None:
        """Asks all hosts what to do; a decision stays until it is carried out."""
        wish = SIGNALS.get(self.stop.signal, NOTHING)
        late = time.monotonic() - self.saved_at > 60 * self.config.log.save_minutes
        if wish == NOTHING and late and not self.wished_to_save and is_first_host():
            wish, self.wished_to_save = SAVE, True
        self.decision = max(self.decision, self.agreement.decide(wish))

    def _step(self, loaded: LoadedBatch) -> None:
        self.state, metrics = self.step_fn(self.state, shard_batch(loaded.batch, self.mesh))
        self.position = self.position._replace(
            buckets=self.position.buckets + self.config.pyramid.buckets_per_step,
            step=self.position.step + 1,
        )
        self.forecast.after_step(metrics)
        self.window.add(self.position.step, metrics, loaded)

    def _log(self, recorder: Recorder) -> None:
        """Writes the means since the last time; also the check that the loss is finite."""
        num_steps = len(self.window)
        if not num_steps:
            return
        values = self.window.flush(self.train_set.name)
        self.forecast.after_steps(num_steps, values["speed/seconds_per_step"])
        values["learning_rate"] = float(self.schedule(self.position.step - 1))
        values["epoch"] = self.position.epoch + 1
        values["compiles"] = len(self.compiles)
        recorder.write(self.position.step, values)
        recorder.show(
            f"loss {values['loss']:.3f}  {values['speed/points_per_second'] / 1000:.1f}k points/s  "
            f"waiting {100 * values['speed/waiting_share']:.0f} %"
        )

    def _evaluate(self, validation: Validation, recorder: Recorder) -> float:
        values = validation.measure(self.state)
        recorder.write(self.position.step, values)
        score = values[validation.score]
        logger.info(
            "epoch %d: %s of the validation %.3f", self.position.epoch, validation.score, score
        )
        return score

    def _save(self, recorder: Recorder, score: float | None) -> None:
        self._log(recorder)
        notes = {"position": self.position._asdict(), "settings": to_values(self.config)}
        self.checkpoints.save(self.position.step, self.state, notes, score)
        self.saved_at, self.wished_to_save = time.monotonic(), False
        if self.decision == SAVE:
            self.decision = NOTHING
        self.spent.note()
        self.window.restart()

    def _leave(self, recorder: Recorder) -> None:
        self._save(recorder, None)
        name = next(name for name, code in SIGNALS.items() if code == self.decision)
        raise StoppedError(f"{name}: saved step {self.position.step}")


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
