"""How well a network does on sequences that it is not trained on, while it is trained."""

import numpy as np
from numpy.typing import NDArray

from stm_skeletons.errors import DataError
from training.data.held_out import held_out_sequences
from training.data.labels import DataSet
from training.data.targets import make_targets
from training.evaluation.evaluate import evaluate
from training.map_pictures import caption, grid, paint
from training.model import SpaceTimeMemory
from training.model.session import TorchSession
from training.recipe import Recipe

_PICTURED = 4  # sequences


class Validation:
    """A recipe's validation: the F1 that early stopping goes by, and a picture."""

    def __init__(self, recipe: Recipe, data: DataSet) -> None:
        """Raises DataError when there is nothing to validate on."""
        self._options = recipe.validation
        self._memory = recipe.memory
        self._sequences = list(held_out_sequences(data, recipe.size, self._options.frames, self._options.sequences))
        if not self._sequences:
            raise DataError(f"{data.name}: no picture or video can be used for validation")

    def f1(self, model: SpaceTimeMemory) -> float:
        """Keypoint F1, one to one, at its best threshold; for networks without keypoint maps pixel F1."""
        config = model.config
        session = self._session(model)
        found = evaluate(session, self._sequences, config.skeleton, config.channels, self._options.start)
        whole = next(iter(found.pixel_scores().values()))  # all maps together come first
        f1 = whole.f1 if found.keypoints is None else found.best("one_to_one").f1
        return float(np.nan_to_num(f1))  # nothing predicted and nothing to predict

    def picture(self, model: SpaceTimeMemory) -> NDArray[np.uint8]:
        """Predictions beside ground truth for the last frame of some sequences, started as validation is."""
        config, rows = model.config, []
        for sequence in self._sequences[:_PICTURED]:
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
        """With the memory that the recipe trains for; the runtime's usual one for the paper's, which keeps all."""
        slots, every = self._memory.slots, self._memory.every
        return TorchSession(model) if slots is None else TorchSession(model, slots, every)
