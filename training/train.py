"""A training run: from a recipe and a data set to weights (paper section 2.3)."""

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
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from stm_skeletons.errors import DataError, TrainingError, one_line
from stm_skeletons.files import atomic_write
from stm_skeletons.signals import stop_signals
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.checkpoint import Progress as RunProgress
from training.data.labels import DataSet
from training.data.samples import InterleavedSamples, Sample, SampleOrder, Samples, prepare_worker
from training.hardware import Hardware, keep_freed_memory, open_fabric
from training.logs import RunLog
from training.map_pictures import caption, grid, paint
from training.model.weights import save_weights
from training.recipe import OptimiserSection, Recipe
from training.starting import starting_model
from training.unroll import Unroll, Unrolled
from training.validation import Validation

_LOG_EVERY = 10


@dataclass(frozen=True)
class LoggingOptions:
    """How often a run writes what."""

    checkpoint_every: int = 100
    """Steps."""
    picture_minutes: float = 5.0


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    folder: Path
    steps: int
    best: float
    """Best validation F1."""
    best_step: int
    interrupted: bool
    waiting_share: float = field(default=0.0)
    """Share of this process's time that was spent waiting for samples."""

    @property
    def weights(self) -> Path:
        """The weights after the last step; those of the best validation are beside them."""
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
    """Train as the recipe says.

    Writes into ``folder``: weights.safetensors (at the end), best.safetensors (best validation), recipe.json,
    checkpoint.pt, log.csv, tensorboard/ and pictures/. Ctrl-C and SIGTERM finish the
    step, write a checkpoint and return.

    Args:
        recipe: what to do.
        training_data, validation_data: of the recipe's skeleton.
        folder: of this run; made where it is missing.
        init: starting weights of the same network, or several to start from their mean; fresh ones without.
        resume: go on from the folder's checkpoint, on the CPU to the same bits as if it had never stopped.
        hardware: devices, precision and workers.
        logging_options: how often a checkpoint and a picture are written.
        interleaved: a recipe and its training data, whose samples take turns with these.

    Raises:
        WeightsError: starting weights or the checkpoint do not fit.
        DataError: nothing to train on.
        RecipeError: ``freeze`` names what the network has not.
        TrainingError: the loss is no number, or the batch cannot be spread over the devices.
        SinkError: something cannot be written; the last checkpoint stays.
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
    """Samples as ``recipe`` says, for the network, as long and with the seed of the one that is trained."""
    sequence = recipe.sequence.model_copy(update={"frames": trained.sequence.frames})
    return Samples(data, trained.model.config.channels, recipe.size, sequence, recipe.samples, trained.seed)


class _Run:
    """The state of one run; ``train`` goes through it."""

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
        self._started = self._pictured = time.monotonic()
        self._waited = 0.0

    def train(self) -> Result:
        try:
            return self._train()
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"out of memory on {self._fabric.device}: lower optimiser.batch (and raise accumulate), "
                f"sequence.frames or the size; {one_line(error)}"
            ) from error
        except RuntimeError as error:
            # A worker that dies is noticed in the middle of anything.
            if "DataLoader worker" not in str(error):
                raise
            raise TrainingError(
                "a process that makes samples died, mostly for want of memory or of room in /dev/shm (a container has "
                f"64 MB or less); take fewer --workers, or 0, and go on with --resume ({one_line(error)})"
            ) from error

    def _train(self) -> Result:
        progress = self._progress
        with self._log() as log, _bar(enabled=log is not None) as bar, self._stop_signals() as asked:
            task = bar.add_task(self._folder.name, total=self._total, completed=progress.step, note="")
            self._model.train()
            while progress.step < self._total and not (progress.finished or asked.is_set()):
                batch, unrolled, loss, norm = self._step()
                bar.update(task, completed=progress.step, note=f"loss {loss:.4g}")
                if log is not None:
                    self._write_down(log, batch, unrolled, loss, norm)
                if progress.step % self._recipe.validation.every == 0 or progress.step == self._total:
                    self._validate(log)
                if progress.step % self._logging.checkpoint_every == 0:
                    self._save()
        return self._finish()

    @contextmanager
    def _log(self) -> Iterator[RunLog | None]:
        """The run's log, of the first of several processes."""
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

    def _write_down(self, log: RunLog, batch: Sample, unrolled: Unrolled, loss: float, norm: float) -> None:
        step = self._progress.step
        if step % _LOG_EVERY == 0 or step == self._total:
            log.add(self._numbers(loss, norm))
        if time.monotonic() - self._pictured > 60 * self._logging.picture_minutes:
            self._pictured = time.monotonic()
            log.picture("training", step, self._picture(batch, unrolled))

    def _finish(self) -> Result:
        progress = self._progress
        interrupted = progress.step < self._total and not progress.finished
        progress.finished = not interrupted
        self._save()
        if self._fabric.is_global_zero and not interrupted:
            self._save_weights("weights.safetensors")
        self._fabric.barrier()  # nobody goes on to a next recipe before the weights are there
        share = self._waited / max(time.monotonic() - self._started, 1e-9)
        return Result(self._folder, progress.step, progress.best, progress.best_step, interrupted, share)

    def _step(self) -> tuple[Sample, Unrolled, float, float]:
        """One step of the optimiser, over ``accumulate`` batches; the last one with its loss and gradient norm."""
        accumulate, total = self._recipe.optimiser.accumulate, 0.0
        for _ in range(accumulate - 1):
            with self._fabric.no_backward_sync(self._unroll):
                total += self._backward(self._next())[1]
        batch = self._next()
        unrolled, loss = self._backward(batch)
        total += loss
        if not math.isfinite(total):
            raise TrainingError(
                f"the loss is no number at step {self._progress.step}; lower learning_rate or set clip; the last "
                f"checkpoint in {self._folder} is from before"
            )
        norm = self._clip()
        self._optimiser.step()
        self._optimiser.zero_grad()
        self._scheduler.step()
        self._progress.step += 1
        return batch, unrolled, total, norm

    def _stop_signals(self) -> AbstractContextManager[threading.Event]:
        """Steps are finished before a run stops. Several processes would stop at different steps: they just stop."""
        return stop_signals() if self._fabric.world_size == 1 else nullcontext(threading.Event())

    def _next(self) -> Sample:
        waiting = time.monotonic()
        try:
            batch = next(self._loader)
        except DataError as error:  # from a worker it comes with a traceback; its last line is what was said
            said = str(error).strip().splitlines()[-1]
            raise DataError(said.removeprefix(f"{DataError.__module__}.DataError: ")) from error
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

    def _numbers(self, loss: float, norm: float) -> dict[str, float]:
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

    def _validate(self, log: RunLog | None) -> None:
        progress = self._progress
        self._model.eval()
        f1 = self._validation.f1(self._model) if self._fabric.is_global_zero else 0.0
        f1 = float(self._fabric.broadcast(f1))
        if f1 > progress.best:
            progress.best, progress.best_step, progress.stale = f1, progress.step, 0
            if self._fabric.is_global_zero:
                self._save_weights("best.safetensors")
        else:
            progress.stale += 1
        patience = self._recipe.validation.patience
        progress.finished = patience is not None and progress.stale >= patience
        if log is not None:
            log.add({"step": progress.step, "validation_f1": f1})
            log.picture("validation", progress.step, self._validation.picture(self._model))
        self._model.train()

    def _picture(self, batch: Sample, unrolled: Unrolled) -> NDArray[np.uint8]:
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
                f"a batch of {optimiser.batch} cannot be spread over {fabric.world_size} devices; make optimiser.batch "
                "a multiple of them"
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
            generator=torch.Generator(),  # workers' seeds must not use up the global one: resuming would differ
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


def _bar(enabled: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not enabled or not console.is_terminal)
