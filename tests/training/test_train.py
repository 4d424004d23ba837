"""Training runs: bit-identical when resumed, robust against failures, the same with one process and with two."""

import csv
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stm_skeletons.cli.app import make_app
from stm_skeletons.errors import DataError, RecipeError, SinkError, StmError, TrainingError, WeightsError
from training.data.labels import DataSet, ImageFile
from training.hardware import Hardware
from training.model import ModelConfig, build
from training.model.weights import load_weights, save_weights
from training.recipe import Recipe, load_recipe
from training.recipe_run import open_split, run_folder, run_recipe
from training.train import LoggingOptions, Result, train

CPU = Hardware(accelerator="cpu", workers=0)
ROOT = Path(__file__).parents[2]


def changed(recipe: Recipe, **sections: dict) -> Recipe:
    """The recipe with some values of its sections replaced."""
    content = recipe.resolved()
    for name, values in sections.items():
        content[name] = {**content[name], **values}
    return Recipe.model_validate(content, strict=False)


@pytest.fixture
def recipe(tiny_recipe: Path) -> Recipe:
    return load_recipe(tiny_recipe)


@pytest.fixture
def data(recipe: Recipe, small_coco: Path) -> tuple[DataSet, DataSet]:
    return open_split(recipe, small_coco, "train"), open_split(recipe, small_coco, "val")


def same_tensors(first: Path, second: Path) -> bool:
    one, two = load_file(first), load_file(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def log_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of the log without the columns that differ between runs."""
    with (folder / "log.csv").open() as file:
        return [
            {name: value for name, value in row.items() if name not in ("seconds", "waiting_share")}
            for row in csv.DictReader(file)
        ]


def test_run_writes_weights_log_and_images(recipe: Recipe, data: tuple[DataSet, DataSet], tmp_path: Path):
    result = train(recipe, *data, tmp_path / "run", hardware=CPU, logging_options=LoggingOptions(checkpoint_every=2))
    assert result.steps == 6
    assert not result.interrupted
    model, provenance = load_weights(result.weights)
    assert model.config == recipe.model.config
    assert provenance.training == {**recipe.resolved(), "step": 6}
    assert json.loads((tmp_path / "run" / "recipe.json").read_text()) == recipe.resolved()
    assert [row["step"] for row in log_rows(result.folder) if row["validation_f1"]] == ["0", "3", "6"]
    assert load_weights(result.folder / "best.safetensors")[1].training["step"] == result.best_step
    names = {path.name for path in result.folder.iterdir()}
    assert names == {
        "weights.safetensors",
        "best.safetensors",
        "checkpoint.pt",
        "recipe.json",
        "log.csv",
        "tensorboard",
        "pictures",
    }
    assert sorted(path.name for path in (result.folder / "pictures").iterdir()) == [
        "validation-0000000.png",
        "validation-0000003.png",
        "validation-0000006.png",
    ]


def test_training_lowers_the_loss(recipe: Recipe, data: tuple[DataSet, DataSet], tmp_path: Path):
    longer = changed(recipe, optimiser={"length": "60 steps", "learning_rate": 3e-3}, validation={"every": 60})
    result = train(longer, *data, tmp_path / "run", hardware=CPU)
    losses = [float(row["loss"]) for row in log_rows(result.folder) if row["loss"]]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_run_is_bit_identical(recipe: Recipe, data: tuple[DataSet, DataSet], tmp_path: Path, workers: int):
    """Also with a schedule and gradient accumulation."""
    recipe = changed(recipe, optimiser={"schedule": "cosine", "warm_up": 2, "accumulate": 2, "clip": 1.0})
    hardware = dataclasses.replace(CPU, workers=workers)
    whole = train(recipe, *data, tmp_path / "whole", hardware=hardware)
    part = tmp_path / "part"
    stop_after(part, 3, recipe, data, hardware)
    resumed = train(recipe, *data, part, resume=True, hardware=hardware)
    assert resumed.steps == whole.steps == 6
    assert same_tensors(whole.weights, resumed.weights)
    assert same_tensors(whole.folder / "best.safetensors", resumed.folder / "best.safetensors")
    assert log_rows(whole.folder) == log_rows(resumed.folder)


def stop_after(folder: Path, step: int, recipe: Recipe, data: tuple[DataSet, DataSet], hardware: Hardware) -> Result:
    """Train with Ctrl-C at the validation of that step."""
    from training import validation

    original, calls = validation.Validation.f1, []

    def interrupted(self, model):
        f1 = original(self, model)
        calls.append(f1)
        if len(calls) == 2:  # the first call validates the initial weights
            signal.raise_signal(signal.SIGINT)
        return f1

    patch = pytest.MonkeyPatch()
    patch.setattr(validation.Validation, "f1", interrupted)
    try:
        result = train(
            changed(recipe), *data, folder, hardware=hardware, logging_options=LoggingOptions(checkpoint_every=step)
        )
    finally:
        patch.undo()
    assert result.interrupted
    assert result.steps == step
    assert not result.weights.exists(), "an interrupted run has no final weights"
    return result


def test_resuming_a_finished_run_changes_nothing(recipe: Recipe, data: tuple[DataSet, DataSet], tmp_path: Path):
    first = train(recipe, *data, tmp_path / "run", hardware=CPU)
    before = first.weights.read_bytes()
    again = train(recipe, *data, tmp_path / "run", resume=True, hardware=CPU)
    assert again.steps == 6
    assert again.weights.read_bytes() == before


def test_training_stops_early_without_improvement(recipe: Recipe, data: tuple[DataSet, DataSet], tmp_path: Path):
    """Nothing is learnt at this learning rate, so the first validation stays the best."""
    stagnant = changed(
        recipe,
        optimiser={"learning_rate": 1e-12, "length": "50 steps"},
        validation={"every": 2, "patience": 2},
    )
    result = train(stagnant, *data, tmp_path / "run", hardware=CPU)
    assert result.steps == 4
    assert result.best_step == 0
    assert result.best == result.first
    assert result.weights.exists()


def test_frozen_parameters_stay_unchanged(recipe: Recipe, data: tuple[DataSet, DataSet], tmp_path: Path):
    start = tmp_path / "start.safetensors"
    torch.manual_seed(3)
    save_weights(start, build(recipe.model.config), "test")
    frozen = changed(recipe, optimiser={"freeze": ["query_encoder", "query_head.key"]})
    result = train(frozen, *data, tmp_path / "run", init=[start], hardware=CPU)
    before, after = load_file(start), load_file(result.weights)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith(("query_encoder", "query_head.key")) for name in moved)
    assert any(name.startswith("query_head.value") for name in moved)
    assert load_weights(result.weights)[1].origin == "test; trained: tiny, for tests"
    with pytest.raises(RecipeError, match=r"no parameter begins with 'trunk'; choose from decoder, memory_encoder"):
        train(changed(recipe, optimiser={"freeze": ["trunk"]}), *data, tmp_path / "other", hardware=CPU)


def test_weights_of_another_network_are_refused(recipe: Recipe, data: tuple[DataSet, DataSet], tmp_path: Path):
    other = tmp_path / "other.safetensors"
    save_weights(other, build(ModelConfig(variant="stm", width=0.0625)), "test")
    with pytest.raises(
        WeightsError, match=r"is stm of coco17 at width 0.0625, but the recipe trains resnet50 of coco17"
    ):
        train(recipe, *data, tmp_path / "run", init=[other], hardware=CPU)


def test_missing_mismatched_and_damaged_checkpoints_are_refused(
    recipe: Recipe, data: tuple[DataSet, DataSet], tmp_path: Path
):
    folder = tmp_path / "run"
    with pytest.raises(WeightsError, match=r"checkpoint .* does not exist; start without --resume"):
        train(recipe, *data, folder, resume=True, hardware=CPU)
    train(recipe, *data, folder, hardware=CPU)
    with pytest.raises(WeightsError, match=r"another recipe: model.variant was resnet50, is stm"):
        train(changed(recipe, model={"variant": "stm"}), *data, folder, resume=True, hardware=CPU)
    with pytest.raises(WeightsError, match=r"optimiser.learning_rate was 0.001, is 0.002"):
        train(changed(recipe, optimiser={"learning_rate": 2e-3}), *data, folder, resume=True, hardware=CPU)
    checkpoint = folder / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"is not a checkpoint or is damaged"):
        train(recipe, *data, folder, resume=True, hardware=CPU)


def test_non_finite_loss_stops_training_and_keeps_the_last_checkpoint(
    recipe: Recipe, data: tuple[DataSet, DataSet], tmp_path: Path
):
    diverging = changed(recipe, optimiser={"learning_rate": 1e30, "length": "20 steps"})
    with pytest.raises(
        TrainingError, match=r"the loss became NaN or infinite at step .*; lower learning_rate or set clip"
    ):
        train(diverging, *data, tmp_path / "run", hardware=CPU, logging_options=LoggingOptions(checkpoint_every=1))
    content = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert content["progress"]["step"] >= 1
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_batch_must_be_a_multiple_of_the_devices(
    recipe: Recipe, data: tuple[DataSet, DataSet], tmp_path: Path, monkeypatch
):
    from training.train import Fabric

    monkeypatch.setattr(Fabric, "world_size", 3)
    with pytest.raises(TrainingError, match=r"optimiser.batch is 2, must be a multiple of the 3 devices"):
        train(recipe, *data, tmp_path / "run", hardware=CPU)


def test_full_disk_keeps_the_last_checkpoint(recipe: Recipe, data: tuple[DataSet, DataSet], tmp_path: Path):
    folder = tmp_path / "run"
    stop_after(folder, 3, recipe, data, CPU)
    before = (folder / "checkpoint.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))  # as if the disk were full
    try:
        with pytest.raises(SinkError, match=r"cannot write .*(checkpoint\.pt|\.safetensors)"):
            train(recipe, *data, folder, resume=True, hardware=CPU, logging_options=LoggingOptions(checkpoint_every=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (folder / "checkpoint.pt").read_bytes() == before
    assert not list(folder.glob(".*partial*"))
    result = train(recipe, *data, folder, resume=True, hardware=CPU)
    assert result.steps == 6


def test_preceding_recipe_is_trained_first(tiny_recipe: Path, small_coco: Path, tmp_path: Path):
    second = tiny_recipe.with_name("second.toml")
    second.write_text(f'like = "tiny"\nafter = "{tiny_recipe}"\ntitle = "second"\n[optimiser]\nlength = "2 steps"\n')
    messages: list[str] = []
    runs = tmp_path / "runs"
    result = run_recipe(str(second), {"coco": small_coco}, runs, seed=4, hardware=CPU, say=messages.append)
    assert result.folder == run_folder(runs, "second", 4)
    first = run_folder(runs, "tiny", 4) / "weights.safetensors"
    assert first.is_file()
    assert f"training {tiny_recipe} first" in messages
    assert "trained: tiny, for tests; trained: second" in load_weights(result.weights)[1].origin
    with pytest.raises(RecipeError, match=r"already holds a run; continue it with --resume"):
        run_recipe(str(second), {"coco": small_coco}, runs, seed=4, hardware=CPU, say=messages.append)
    again = run_recipe(
        str(second), {"coco": small_coco}, tmp_path / "runs", 4, resume=True, hardware=CPU, say=messages.append
    )
    assert again.steps == 2
    with pytest.raises(RecipeError, match=r"tiny\.toml needs coco data; add --data coco=FOLDER"):
        run_recipe(str(tiny_recipe), {}, runs, seed=5, hardware=CPU, say=messages.append)


def test_interleaved_recipe_contributes_only_its_samples(
    tiny_recipe: Path, small_coco: Path, small_footage: Path, tmp_path: Path
):
    """The other recipe contributes its samples but none of its other settings."""
    other = tiny_recipe.with_name("other.toml")
    text = 'like = "tiny"\ntitle = "other"\n[optimiser]\nlength = "1 steps"\n[data]\nkind = "footage"\n'
    other.write_text(text)
    both = tiny_recipe.with_name("both.toml")
    both.write_text(f'like = "tiny"\ntitle = "both"\ninterleaved_with = "{other}"\n')
    data = {"coco": small_coco, "footage": small_footage}

    def losses(recipe: Path, out: str = "runs") -> list[str]:
        result = run_recipe(str(recipe), data, tmp_path / out, hardware=CPU)
        assert result.steps == 6
        return [row["loss"] for row in log_rows(result.folder) if row["loss"]]

    interleaved = losses(both)
    assert interleaved != losses(tiny_recipe)
    with pytest.raises(RecipeError, match=r"other\.toml needs footage data; add --data footage=FOLDER"):
        run_recipe(str(both), {"coco": small_coco}, tmp_path / "again", hardware=CPU)
    other.write_text(text + "[sequence]\nframes = 4\n")
    assert losses(both, "longer") == interleaved, "samples have the length that the first recipe sets"
    other.write_text(text + "width = 128\n")
    with pytest.raises(RecipeError, match=r"both\.toml and .*other\.toml are interleaved but differ in size"):
        run_recipe(str(both), data, tmp_path / "again", hardware=CPU)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "stm_skeletons", *arguments]


def train_arguments(recipe: Path, coco: Path, out: Path) -> list[str]:
    return ["train", str(recipe), "--data", f"coco={coco}", "--out", str(out), "--accelerator", "cpu", "--workers", "1"]


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_network_uses_half_of_the_cores_by_default(cores: int, threads: int, monkeypatch: pytest.MonkeyPatch):
    """Half of the cores that this process may use, but at least one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert Hardware().cpu_threads == threads
    assert Hardware(threads=3).cpu_threads == 3


def test_train_command_uses_the_given_number_of_threads(
    tiny_recipe: Path, small_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    tiny_recipe.write_text(tiny_recipe.read_text().replace('"6 steps"', '"1 steps"'))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        arguments = train_arguments(tiny_recipe, small_coco, tmp_path)
        make_app()([*arguments, "--workers", "0", "--threads", "1"], standalone_mode=False)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_training_uses_the_memory_of_the_recipe(recipe: Recipe, data: tuple[DataSet, DataSet], tmp_path: Path):
    """With two slots, the third frame after the first does not read all earlier frames."""
    longer = changed(recipe, sequence={"frames": 4}, validation={"every": 6})
    shorter = changed(longer, memory={"slots": 2})
    first, second = (train(one, *data, tmp_path / str(one.memory.slots), hardware=CPU) for one in (longer, shorter))
    assert [row["loss"] for row in log_rows(first.folder)] != [row["loss"] for row in log_rows(second.folder)]


def test_two_processes_train_the_same_weights_as_one(tiny_recipe: Path, small_coco: Path, tmp_path: Path):
    """Compares torchrun on two CPU processes with one process, on the same batches."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run(command(*train_arguments(tiny_recipe, small_coco, one)), check=True, env=environment, cwd=ROOT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    subprocess.run(
        [*torchrun, "stm_skeletons", *train_arguments(tiny_recipe, small_coco, two)],
        check=True,
        env=environment,
        cwd=ROOT,
    )
    first, second = (load_file(run_folder(out, "tiny", 0) / "weights.safetensors") for out in (one, two))
    # A constant added to every key of the memory does not change the read (softmax), so the gradient of this bias is
    # only rounding error, but Adam still makes steps from it.
    del first["memory_head.key.bias"]
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=2e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_data_is_reported_in_one_line(
    recipe: Recipe, data: tuple[DataSet, DataSet], tmp_path: Path, workers: int
):
    """In the main process and in a worker."""
    gone = dataclasses.replace(data[0].images[0], file=ImageFile(tmp_path / "gone.jpg"))
    training_data = dataclasses.replace(data[0], images=(gone,))
    with pytest.raises(DataError, match=r"^coco train: 20 images or videos in a row cannot be used; see the log$"):
        train(recipe, training_data, data[1], tmp_path / "run", hardware=dataclasses.replace(CPU, workers=workers))


def test_dead_worker_is_reported_in_one_line(
    recipe: Recipe, data: tuple[DataSet, DataSet], tmp_path: Path, monkeypatch
):
    from training.data.samples import Samples

    original = Samples.__getitem__

    def die(self, index: tuple[int, int]):
        if index[0] == 1:  # in the second epoch
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, index)

    monkeypatch.setattr(Samples, "__getitem__", die)
    longer = changed(recipe, optimiser={"length": "30 steps"})
    with pytest.raises(TrainingError, match=r"a data loader process died.*/dev/shm.*--workers, 0 if need be.*--resume"):
        train(longer, *data, tmp_path / "run", hardware=dataclasses.replace(CPU, workers=1))


@pytest.mark.slow
def test_kill_9_loses_at_most_one_checkpoint_interval(tiny_recipe: Path, small_coco: Path, tmp_path: Path):
    """A run that is killed at several moments and resumed ends bit-identical to one that was never killed."""
    tiny_recipe.write_text(
        tiny_recipe.read_text().replace('"6 steps"', '"40 steps"').replace("every = 3", "every = 20")
    )
    whole = tmp_path / "whole"
    subprocess.run(command(*train_arguments(tiny_recipe, small_coco, whole)), check=True, cwd=ROOT)
    out = tmp_path / "killed"
    arguments = [*train_arguments(tiny_recipe, small_coco, out), "--checkpoint-every", "5", "--resume"]
    checkpoint = run_folder(out, "tiny", 0) / "checkpoint.pt"
    reached = 0
    for moment in (5, 10, 25):
        process = subprocess.Popen(command(*arguments), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None and step_of(checkpoint) < moment:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert step_of(checkpoint) >= max(moment, reached)
        reached = step_of(checkpoint)
    subprocess.run(command(*arguments), check=True, cwd=ROOT)
    assert same_tensors(
        run_folder(whole, "tiny", 0) / "weights.safetensors", checkpoint.with_name("weights.safetensors")
    )


def step_of(checkpoint: Path) -> int:
    """The step of the checkpoint, which is complete at any moment; 0 if there is none."""
    return torch.load(checkpoint, weights_only=True)["progress"]["step"] if checkpoint.exists() else 0


@pytest.mark.parametrize("bad", ["no folder", "empty", "half"])
def test_bad_data_is_reported_in_one_line(tiny_recipe: Path, tmp_path: Path, bad: str):
    root = tmp_path / "data"
    if bad != "no folder":
        (root / "annotations").mkdir(parents=True)
        (root / "train2017").mkdir()
        text = '{"images": [], "annotations": [], "categories": []}' if bad == "empty" else '{"images": [{"id"'
        (root / "annotations" / "person_keypoints_train2017.json").write_text(text)
    with pytest.raises(StmError) as error:
        run_recipe(str(tiny_recipe), {"coco": root}, tmp_path / "runs", hardware=CPU, say=lambda _: None)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()
