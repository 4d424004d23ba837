"""Trains a network: from a recipe and a data set to weights (paper section 2.3)."""

import json
import math
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from stm_skeletons.cli.progress import Progress, no_progress, show_progress
from stm_skeletons.cli.say import say
from stm_skeletons.errors import DataError, TrainingError, one_line
from stm_skeletons.files import atomic_write
from stm_skeletons.signals import stop_signals
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.checkpoint import Progress as RunProgress
from training.data.labels import DataSet
from training.data.samples import InterleavedSamples, Sample, SampleOrder, Samples, prepare_worker
from training.hardware import Hardware, keep_freed_memory, open_fabric
from training.logs import RunLog
from training.map_images import caption, grid, paint
from training.model.weights import save_weights
from training.recipe import OptimiserSection, Recipe
from training.starting import starting_model
from training.unroll import Unroll, Unrolled
from training.validation import Validation

_LOG_EVERY = 10


@dataclass(frozen=True)
class LoggingOptions:
    """How often a run writes checkpoints and images."""

    checkpoint_every: int = 100
    """Steps between checkpoints."""
    picture_minutes: float = 5.0
    """Minutes between images of a training batch."""


@dataclass(frozen=True)
class Result:
    """Result of a run."""

    folder: Path
    steps: int
    first: float
    """Validation F1 of the starting weights."""
    last: float
    """Validation F1 of the latest weights that were validated; after a complete run, of ``weights``."""
    best: float
    """Best validation F1."""
    best_step: int
    interrupted: bool
    waiting_share: float = field(default=0.0)
    """Share of this process's time spent waiting for samples."""

    @property
    def weights(self) -> Path:
        """Weights after the last step. Those of the best validation are in best.safetensors of the same folder."""
        return self.folder / "weights.safetensors"


def train(
    recipe: Recipe,
    training_data: DataSet,
    validation_data: DataSet,
    folder: Path,
    init: Sequence[Path] = (),
    resume: bool = False,
    hardware: Hardware = Hardware(),  # noqa: B008 - frozen
    logging_options: LoggingOptions = LoggingOptions(),
    interleaved: tuple[Recipe, DataSet] | None = None,
) -> Result:
    """Train a recipe.

    Writes into ``folder``: weights.safetensors (at the end), best.safetensors (best validation), recipe.json,
    checkpoint.pt, log.csv, tensorboard/ and pictures/. On Ctrl-C and SIGTERM, the run finishes its step, writes a
    checkpoint and returns.

    Args:
        recipe: the recipe.
        training_data, validation_data: data of the recipe's skeleton.
        folder: of this run; created if missing.
        init: weights of the same network to start from the mean of; empty for random weights.
        resume: continue from the folder's checkpoint. On the CPU, the result is bit-identical to an uninterrupted run.
        hardware: devices, precision and workers.
        logging_options: how often checkpoints and images are written.
        interleaved: another recipe and its training data, whose samples are interleaved with these.

    Raises:
        WeightsError: the starting weights or the checkpoint do not fit.
        DataError: there is nothing to train on.
        RecipeError: ``freeze`` names parameters that the network does not have.
        TrainingError: the loss became NaN or infinite, or the batch cannot be divided among the devices.
        SinkError: a file cannot be written; the last checkpoint stays.
    """
    keep_freed_memory()
    torch.set_num_threads(hardware.cpu_threads)
    fabric = open_fabric(hardware)
    fabric.launch()
    samples = _samples(recipe, training_data, recipe)
    if interleaved is not None:
        samples = InterleavedSamples(samples, _samples(*interleaved, recipe))
    run = _Run(
        fabric, recipe, samples, Validation(recipe, validation_data), folder, init, resume, hardware, logging_options
    )
    return run.train()


def _samples(recipe: Recipe, data: DataSet, trained: Recipe) -> Samples:
    """Samples of ``recipe``, with network, length and seed of the recipe that is trained."""
    sequence = recipe.sequence.model_copy(update={"frames": trained.sequence.frames})
    return Samples(data, trained.model.config.channels, recipe.size, sequence, recipe.samples, trained.seed)


class _Run:
    """The state of a run."""

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        samples: Samples | InterleavedSamples,
        validation: Validation,
        folder: Path,
        init: Sequence[Path],
        resume: bool,
        hardware: Hardware,
        logging_options: LoggingOptions,
    ) -> None:
        self._fabric = fabric
        self._recipe = recipe
        self._folder = folder
        self._logging = logging_options
        self._model, self._origin = starting_model(recipe, init)
        trained = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.Adam(trained, lr=recipe.optimiser.learning_rate)
        self._unroll, self._optimiser = fabric.setup(Unroll(self._model, recipe.loss, recipe.memory), optimiser)
        self._samples = samples
        self._total = recipe.optimiser.total_steps(len(self._samples))
        self._scheduler = LambdaLR(self._optimiser, _Schedule(recipe.optimiser, self._total))
        self._validation = validation
        self._progress = self._resumed() if resume else RunProgress()
        self._loader = self._start_loader(hardware.workers)
        self._started = self._last_image = time.monotonic()
        self._waited = 0.0

    def train(self) -> Result:
        try:
            return self._train()
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"out of memory on {self._fabric.device}: lower optimiser.batch (and raise accumulate), "
                f"sequence.frames or the input size ({one_line(error)})"
            ) from error
        except RuntimeError as error:
            # The death of a worker is raised wherever the main process happens to be.
            if "DataLoader worker" not in str(error):
                raise
            raise TrainingError(
                "a data loader process died, usually because memory or /dev/shm is full (containers often have only "
                f"64 MB of /dev/shm); lower --workers, 0 if need be, and continue with --resume ({one_line(error)})"
            ) from error

    def _train(self) -> Result:
        progress = self._progress
        with self._log() as log, _shown(log is not None) as show, self._stop_signals() as stop:
            stage = f"training {self._folder.parent.name}/{self._folder.name}"
            show(f"{stage}: first validation")
            if progress.first is None:
                progress.first = self._validate(log)
            self._model.train()
            while progress.step < self._total and not (progress.finished or stop.is_set()):
                batch, unrolled, loss, norm = self._step()
                show(f"{stage}, steps", progress.step, self._total)
                if log is not None:
                    self._log_step(log, batch, unrolled, loss, norm)
                if progress.step % self._recipe.validation.every == 0 or progress.step == self._total:
                    self._validate(log)
                if progress.step % self._logging.checkpoint_every == 0:
                    self._save()
        return self._finish()

    @contextmanager
    def _log(self) -> Iterator[RunLog | None]:
        """The run's log in the first process, None in the others."""
        if not self._fabric.is_global_zero:
            yield None
            return
        log = RunLog(self._folder, self._progress.step)
        try:
            with atomic_write(self._folder / "recipe.json") as partial:
                partial.write_text(json.dumps(self._recipe.resolved(), indent=2) + "\n")
            yield log
        finally:
            log.close()

    def _log_step(self, log: RunLog, batch: Sample, unrolled: Unrolled, loss: float, norm: float) -> None:
        step = self._progress.step
        if step % _LOG_EVERY == 0 or step == self._total:
            log.add(self._log_row(loss, norm))
        if time.monotonic() - self._last_image > 60 * self._logging.picture_minutes:
            self._last_image = time.monotonic()
            log.add_image("training", step, self._image(batch, unrolled))

    def _finish(self) -> Result:
        progress = self._progress
        interrupted = progress.step < self._total and not progress.finished
        progress.finished = not interrupted
        self._save()
        if self._fabric.is_global_zero and not interrupted:
            self._save_weights("weights.safetensors")
        self._fabric.barrier()  # no process starts the next recipe before the weights are written
        share = self._waited / max(time.monotonic() - self._started, 1e-9)
        first, last = progress.first or 0.0, progress.last or 0.0
        return Result(self._folder, progress.step, first, last, progress.best, progress.best_step, interrupted, share)

    def _step(self) -> tuple[Sample, Unrolled, float, float]:
        """Run one optimiser step over ``accumulate`` batches.

        Returns:
            The last batch, its result, the loss of the step and the gradient norm.
        """
        accumulate, total = self._recipe.optimiser.accumulate, 0.0
        for _ in range(accumulate - 1):
            with self._fabric.no_backward_sync(self._unroll):
                total += self._backward(self._next())[1]
        batch = self._next()
        unrolled, loss = self._backward(batch)
        total += loss
        if not math.isfinite(total):
            raise TrainingError(
                f"the loss became NaN or infinite at step {self._progress.step}; lower learning_rate or set clip; "
                f"the last checkpoint in {self._folder} is from an earlier step"
            )
        norm = self._clip()
        self._optimiser.step()
        self._optimiser.zero_grad()
        self._scheduler.step()
        self._progress.step += 1
        return batch, unrolled, total, norm

    def _stop_signals(self) -> AbstractContextManager[threading.Event]:
        """Signals stop a run after its step. Several processes stop at once, as they would stop at different steps."""
        return stop_signals() if self._fabric.world_size == 1 else nullcontext(threading.Event())

    def _next(self) -> Sample:
        waiting = time.monotonic()
        try:
            batch = next(self._loader)
        except DataError as error:  # from a worker it comes with a traceback, whose last line is the message
            message = str(error).strip().splitlines()[-1]
            raise DataError(message.removeprefix(f"{DataError.__module__}.DataError: ")) from error
        self._waited += time.monotonic() - waiting
        return batch

    def _backward(self, batch: Sample) -> tuple[Unrolled, float]:
        unrolled: Unrolled = self._unroll(batch)
        loss = unrolled.losses.sum(1).mean() / self._recipe.optimiser.accumulate
        self._fabric.backward(loss)
        return unrolled, float(loss.detach())

    def _clip(self) -> float:
        largest = self._recipe.optimiser.clip or math.inf
        norm = self._fabric.clip_gradients(self._unroll, self._optimiser, max_norm=largest, error_if_nonfinite=False)
        return float(norm) if norm is not None else math.nan

    def _log_row(self, loss: float, norm: float) -> dict[str, float]:
        step, seconds = self._progress.step, time.monotonic() - self._started
        taken = step * self._recipe.optimiser.batch * self._recipe.optimiser.accumulate
        return {
            "step": step,
            "epoch": taken / len(self._samples),
            "loss": loss,
            "learning_rate": self._optimiser.param_groups[0]["lr"],
            "gradient_norm": norm,
            "waiting_share": self._waited / max(seconds, 1e-9),
            "seconds": seconds,
        }

    def _validate(self, log: RunLog | None) -> float:
        """Validation F1, which decides about the best weights and an early stop."""
        progress = self._progress
        self._model.eval()
        f1 = self._validation.f1(self._model) if self._fabric.is_global_zero else 0.0
        f1 = progress.last = float(self._fabric.broadcast(f1))
        if f1 > progress.best:
            progress.best, progress.best_step, progress.stale = f1, progress.step, 0
            if self._fabric.is_global_zero:
                self._save_weights("best.safetensors")
        else:
            progress.stale += 1
        patience = self._recipe.validation.patience
        progress.finished = patience is not None and progress.stale >= patience
        if log is not None:
            before = "" if progress.first is None else f" ({progress.first:.3f} before training)"
            say(f"step {progress.step}: validation F1 {f1:.3f}{before}")
            log.add({"step": progress.step, "validation_f1": f1})
            log.add_image("validation", progress.step, self._validation.image(self._model))
        self._model.train()
        return f1

    def _image(self, batch: Sample, unrolled: Unrolled) -> NDArray[np.uint8]:
        names = self._model.config.channels
        predicted, truth = [], []
        for n, maps in unrolled.maps.items():
            frame = batch["frames"][0, n].cpu().numpy()
            predicted.append(caption(paint(frame, maps[0].float().cpu().numpy(), names), f"frame {n}: predicted"))
            truth.append(caption(paint(frame, batch["maps"][0, n].cpu().numpy(), names), f"frame {n}: ground truth"))
        return grid([predicted, truth])

    def _start_loader(self, workers: int) -> Iterator[Sample]:
        fabric, optimiser = self._fabric, self._recipe.optimiser
        if optimiser.batch % fabric.world_size:
            raise TrainingError(
                f"optimiser.batch is {optimiser.batch}, must be a multiple of the {fabric.world_size} devices"
            )
        order = SampleOrder(
            len(self._samples),
            self._recipe.seed,
            self._progress.step * optimiser.batch * optimiser.accumulate,
            fabric.global_rank,
            fabric.world_size,
        )
        loader = DataLoader(
            self._samples,
            batch_size=optimiser.batch // fabric.world_size,
            sampler=order,
            num_workers=workers,
            worker_init_fn=prepare_worker,
            pin_memory=fabric.device.type == "cuda",
            generator=torch.Generator(),  # the global generator must not advance here, or resuming would differ
        )
        return iter(cast("Iterable[Sample]", fabric.setup_dataloaders(loader, use_distributed_sampler=False)))

    def _save(self) -> None:
        if not self._fabric.is_global_zero:
            return
        random = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random |= {f"cuda:{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
        checkpoint = Checkpoint(
            self._recipe.resolved(),
            self._model.state_dict(),
            self._optimiser.state_dict(),
            self._scheduler.state_dict(),
            random,
            self._progress,
        )
        save_checkpoint(self._folder / "checkpoint.pt", checkpoint)

    def _resumed(self) -> RunProgress:
        checkpoint = load_checkpoint(self._folder / "checkpoint.pt", self._recipe)
        self._model.load_state_dict(checkpoint.model)
        self._optimiser.load_state_dict(checkpoint.optimiser)
        self._scheduler.load_state_dict(checkpoint.scheduler)
        torch.set_rng_state(checkpoint.random["cpu"])
        for i in range(torch.cuda.device_count()):
            if f"cuda:{i}" in checkpoint.random:
                torch.cuda.set_rng_state(checkpoint.random[f"cuda:{i}"], i)
        return checkpoint.progress

    def _save_weights(self, name: str) -> None:
        resolved = {**self._recipe.resolved(), "step": self._progress.step}
        save_weights(self._folder / name, self._model, self._origin, resolved)


class _Schedule:
    """Factor of the learning rate at a step."""

    def __init__(self, optimiser: OptimiserSection, total: int) -> None:
        self._warm_up = optimiser.warm_up
        self._total = total if optimiser.schedule == "cosine" else None

    def __call__(self, step: int) -> float:
        warm = min(1.0, (step + 1) / (self._warm_up + 1))
        return warm if self._total is None else warm * 0.5 * (1 + math.cos(math.pi * min(step / self._total, 1)))


def _shown(enabled: bool) -> AbstractContextManager[Progress]:
    """Progress on standard error, in one of several processes."""
    return show_progress() if enabled else nullcontext(no_progress)
