"""Validation during training, on held-out sequences."""

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import DataError
from training.data.held_out import held_out_sequences
from training.data.labels import DataSet
from training.data.targets import make_targets
from training.evaluation.evaluate import evaluate
from training.map_images import caption, grid, paint
from training.model import SpaceTimeMemory
from training.model.session import TorchSession
from training.recipe import Recipe

_DRAWN = 4  # sequences


class Validation:
    """A recipe's validation: the F1 for early stopping, and an image of predictions."""

    def __init__(self, recipe: Recipe, data: DataSet) -> None:
        """Raises DataError if there is nothing to validate on."""
        self._options = recipe.validation
        self._memory = recipe.memory
        self._sequences = list(held_out_sequences(data, recipe.size, self._options.frames, self._options.sequences))
        if not self._sequences:
            raise DataError(f"{data.name}: no image or video can be used for validation; see the log for the reasons")

    def f1(self, model: SpaceTimeMemory) -> float:
        """Keypoint F1 with one-to-one matching at its best threshold; pixel F1 for networks without keypoint maps."""
        config = model.config
        session = self._session(model)
        found = evaluate(session, self._sequences, config.skeleton, config.channels, self._options.start)
        overall = next(iter(found.pixel_scores().values()))  # the first group has all maps
        f1 = overall.f1 if found.keypoints is None else found.best("one_to_one").f1
        return float(np.nan_to_num(f1))  # NaN: there is no prediction and no label

    def image(self, model: SpaceTimeMemory) -> NDArray[np.uint8]:
        """Predictions next to ground truth for the last frame of some sequences."""
        config, rows = model.config, []
        for sequence in self._sequences[:_DRAWN]:
            session = self._session(model)
            if self._options.start == "seed":
                session.seed(sequence.frames[0].poses)
            for frame in sequence.frames:
                session.step(frame.image)
            last = sequence.frames[-1]
            truth, _ = make_targets(last, config.skeleton, config.channels, sequence.sourced)
            title = f"frame {len(sequence.frames) - 1}"
            rows.append(
                [
                    caption(paint(last.image, session.maps(), config.channels), f"{title}: predicted"),
                    caption(paint(last.image, truth, config.channels), f"{title}: ground truth"),
                ]
            )
        return grid(rows)

    def _session(self, model: SpaceTimeMemory) -> TorchSession:
        """A session with the recipe's memory; for a recipe that keeps all frames, with the runtime's default memory."""
        slots, every = self._memory.slots, self._memory.every
        return TorchSession(model) if slots is None else TorchSession(model, slots, every)
