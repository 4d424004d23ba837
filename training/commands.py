"""What a workstation runs: data, training, evaluation."""

from collections.abc import Callable
from contextlib import ExitStack
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stm_skeletons.cli.options import data_folders, name_and_value
from stm_skeletons.cli.say import say_once
from stm_skeletons.errors import DataError, WeightsError
from stm_skeletons.libraries import need, panel
from stm_skeletons.signals import stop_signals

if TYPE_CHECKING:
    from training.evaluation.candidates import Candidate
    from training.label.people_labels import Teacher

app = typer.Typer()
_PANEL = panel("Training", "torch", "safetensors", "scipy", "lightning_fabric", "pycocotools", "matplotlib")


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) of --size WIDTHxHEIGHT."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(f"'{text}' is not WIDTHxHEIGHT, for instance 448x256", param_hint="--size")
    return int(width), int(height)


class Start(str, Enum):
    """How a sequence begins."""

    seed = "seed"
    cold = "cold"


_RECIPE = typer.Argument(help="Name of a shipped recipe ('stm-skeletons recipes' lists them), or a .toml file.")
_DATA = typer.Option(
    "--data", help="KIND=FOLDER, once for each kind: coco, posetrack18, posetrack21, footage. See docs/training.md."
)
_TRAINING_THREADS = typer.Option(min=1, max=1024, help="CPU threads; half of the cores without.")


@app.command(rich_help_panel=_PANEL)
def recipes() -> None:
    """List the shipped recipes."""
    need("train", "torch", "safetensors")
    from training.recipe import SMALL, load_recipe, shipped_recipes

    names = shipped_recipes()
    for name in names:
        if name.removesuffix(SMALL) == name or name.removesuffix(SMALL) not in names:
            print(f"{name:38} {load_recipe(name).title}")
    print(f"With {SMALL} behind its name each comes at small size, for two CPU cores and minutes.")


@app.command(rich_help_panel=_PANEL)
def train(
    recipe: Annotated[str, _RECIPE],
    data: Annotated[list[str], _DATA],
    out: Annotated[Path, typer.Option(help="Folder of runs; this one goes to OUT/RECIPE/seedN.")] = Path("runs"),
    init: Annotated[Path | None, typer.Option(help="Starting weights (.safetensors); fresh ones without.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the recipe's.")] = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="On this machine; torchrun's number of processes wins.")] = 1,
    nodes: Annotated[int, typer.Option(min=1)] = 1,
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed or 16-mixed.")] = "32-true",
    workers: Annotated[int, typer.Option(min=0, help="Processes that make samples, for each device.")] = 2,
    threads: Annotated[int | None, _TRAINING_THREADS] = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 100,
    picture_minutes: Annotated[float, typer.Option(min=0.1, help="Between pictures of predictions.")] = 5.0,
) -> None:
    """Train a recipe. Ctrl-C writes a checkpoint; --resume goes on."""
    need("train", "torch", "safetensors", "lightning_fabric", "pycocotools", "tensorboard")
    from training.hardware import Hardware
    from training.recipe import load_recipe
    from training.recipe_run import run_recipe
    from training.train import LoggingOptions

    # A folder alone is for the kind that the recipe needs.
    folders = data_folders([text if "=" in text else f"{load_recipe(recipe).data.kind}={text}" for text in data])
    hardware = Hardware(accelerator, devices, nodes, precision, workers, threads)
    logging_options = LoggingOptions(checkpoint_every, picture_minutes)
    result = run_recipe(recipe, folders, out, seed, init, resume, hardware, logging_options, say_once)
    if result.interrupted:
        say_once(f"stopped after {result.steps} steps; the same command with --resume goes on")
        raise typer.Exit(130)
    print(
        f"{result.steps} steps; best validation F1 {result.best:.3f} at step {result.best_step}; wrote {result.weights}"
    )
    say_once(f"{100 * result.waiting_share:.1f} % of the time was spent waiting for samples")


@app.command("eval", rich_help_panel=_PANEL)
def evaluate(
    models: Annotated[list[str], typer.Argument(help="Weights (.safetensors), bundles' folders or shipped models.")],
    data: Annotated[list[str], _DATA],
    out: Annotated[Path | None, typer.Option(help="Folder for report.json, report.md, plots and CSV.")] = None,
    start: Annotated[Start, typer.Option(help="Empty memory, or the first frame's people given (paper).")] = Start.cold,
    frames: Annotated[int, typer.Option(min=2, help="Frames of a sequence.")] = 12,
    sequences: Annotated[int | None, typer.Option(min=1, help="At most so many; all without.")] = None,
    occluded: Annotated[bool, typer.Option("--occluded", help="With a moving occluder and blur.")] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Score from which a keypoint counts; the best on these data without.")
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option(help="report.json of other data: each network's best score there counts here.")
    ] = None,
    precision: Annotated[
        float | None, typer.Option(help="Take the lowest threshold with this precision, not the one with the best F1.")
    ] = None,
    controls: Annotated[
        bool, typer.Option("--controls", help="Also without memory, and with memories that learnt nothing.")
    ] = False,
    baseline: Annotated[
        str | None, typer.Option(help="Weights or bundle that each is held against too, without its memory.")
    ] = None,
    split: Annotated[str, typer.Option(help="val, train, or test of data with a splits.json.")] = "val",
    size: Annotated[str | None, typer.Option(help="Input of weights; that of their training without.")] = None,
    slots: Annotated[
        int | None,
        typer.Option(min=2, help="Frames in memory, of weights; as trained, else 6. Bundles have their own."),
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=1, help="The ring takes every n-th frame, of weights; as trained, else 5.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads.")] = None,
) -> None:
    """AP of people, their tracks, precision, recall and F1 of maps and keypoints, and recall over time."""
    need("train", "torch", "safetensors", "pycocotools", "matplotlib")
    from runtime.backends import BackendOptions
    from runtime.session import Session
    from training.evaluation.candidates import Candidate, Conditions, candidate_from_weights, evaluate_candidates
    from training.evaluation.report_files import print_report, write_report

    folders = data_folders(data)
    pixels = None if size is None else parse_size(size)
    conditions = Conditions(split, start.value, frames, sequences, occluded, threshold, thresholds, precision, controls)
    with ExitStack() as stack:

        def candidate(model: str) -> "Candidate":
            if model.endswith(".safetensors"):
                return candidate_from_weights(Path(model), pixels, slots, every, threads)
            session = stack.enter_context(Session.open(model, BackendOptions(threads=threads)))
            info = session.info
            name, threshold = Path(model).name, info.person_threshold
            return Candidate(name, session, info.skeleton, info.channels, info.size, person_threshold=threshold)

        candidates = [candidate(model) for model in models]
        held_against = None if baseline is None else candidate(baseline)
        for kind, root in folders.items():
            report = evaluate_candidates(candidates, kind, root, conditions, say_once, baseline=held_against)
            print_report(report)
            if out is not None:
                folder = out / kind if len(folders) > 1 else out
                write_report(report, folder)
                print(f"wrote {folder}")


@app.command(rich_help_panel=_PANEL)
def ablate(
    recipes: Annotated[list[str], typer.Argument(help="Names of shipped recipes, or .toml files.")],
    data: Annotated[list[str], _DATA],
    out: Annotated[Path, typer.Option(help="Folder for the runs, reports and tables; what is there is not redone.")],
    seeds: Annotated[int, typer.Option(min=1, help="How many: 0, 1, 2 ...")] = 3,
    init: Annotated[
        list[str] | None, typer.Option(help="VARIANT=WEIGHTS to start from, for instance edge=edge.safetensors.")
    ] = None,
    start: Annotated[Start, typer.Option(help="First frame's people given (paper), or an empty memory.")] = Start.seed,
    frames: Annotated[int, typer.Option(min=2, help="Frames of a sequence.")] = 12,
    sequences: Annotated[int | None, typer.Option(min=1, help="At most so many; all without.")] = None,
    occluded: Annotated[bool, typer.Option("--occluded", help="Measure with a moving occluder and blur.")] = False,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that make samples.")] = 2,
    threads: Annotated[int | None, _TRAINING_THREADS] = None,
) -> None:
    """Train and measure recipes, and write the paper's tables and Figure 7 filled with the results."""
    need("train", "torch", "safetensors", "lightning_fabric", "pycocotools", "tensorboard", "matplotlib")
    from training.ablation.ablate import Plan
    from training.ablation.ablate import ablate as run_ablation
    from training.evaluation.candidates import Conditions
    from training.hardware import Hardware

    weights = {
        variant: Path(path)
        for variant, path in (name_and_value(text, "--init", "VARIANT=WEIGHTS") for text in init or [])
    }
    conditions = Conditions(start=start.value, frames=frames, sequences=sequences, occluded=occluded)
    plan = Plan(tuple(recipes), tuple(range(seeds)), data_folders(data), weights, conditions)
    tables = run_ablation(plan, out, Hardware(accelerator=accelerator, workers=workers, threads=threads), say=say_once)
    print(tables.read_text(), end="")
    print(f"wrote {out}")


@app.command(rich_help_panel=_PANEL)
def label(
    sources: Annotated[list[Path], typer.Argument(help="Video files and folders of images.")],
    out: Annotated[Path, typer.Option(help="Folder for the labels (JSON) and a contact sheet of each.")],
    teacher: Annotated[
        str,
        typer.Option(
            help="A shipped model, a bundle's folder, MoveNet MultiPose (.onnx); or with rtmlib rtmo-s, -m, -l, "
            "rtmpose-s, -m, -x."
        ),
    ] = "edge",
    refine: Annotated[
        Path | None, typer.Option(help="MoveNet Thunder (.onnx): looks at each person that MultiPose finds again.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Label every n-th frame.")] = 1,
    first_frame: Annotated[int, typer.Option(min=0, help="Leave out the frames before this one.")] = 0,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames of each.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads.")] = None,
) -> None:
    """Have a teacher network label footage, for training. Run again, it continues where it was stopped."""
    need("train", "scipy")
    from training.label.label import labels_name

    names = [labels_name(source) for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"several sources are called {twice[0]}, and so would their labels be; give each an --out of its own"
        )
    with ExitStack() as stack:
        asked = stack.enter_context(stop_signals())
        opened = _teacher(teacher, refine, threads, stack)
        for source in sources:
            if not asked.is_set():
                _label(source, out, opened, every, (first_frame, max_frames), asked.is_set)


def _label(
    source: Path,
    out: Path,
    teacher: "Teacher",
    every: int,
    part: tuple[int, int | None],
    asked: Callable[[], bool],
) -> None:
    """Label one video or folder: ``part`` is its first frame and how many of them."""
    from runtime.images import ImageSource
    from runtime.sources import open_source
    from training.label.label import label as label_frames

    first, most = part
    with ExitStack() as stack:
        opened = open_source(str(source))
        stack.callback(opened.close)
        if opened.live:
            raise DataError(
                f"{source} is a camera or stream; record it first: labels need footage that can be read again"
            )
        summary = label_frames(
            islice(opened, first, None if most is None else first + most),
            source,
            out,
            teacher,
            every,
            opened.files if isinstance(opened, ImageSource) else None,
            asked,
            first,
        )
    print(
        f"{summary.frames} frames, {summary.people} people, {summary.unsure} left out as unsure; wrote "
        f"{summary.labels} and {summary.contact_sheet}: look at it before training"
    )
    if summary.unsure and not summary.people:
        say_once("the teacher is sure of nobody: a model whose edges are not trained cannot tell people apart")
    if not summary.complete:
        say_once("not to the end; the same command goes on")


@app.command(rich_help_panel=_PANEL)
def show(
    data: Annotated[str, typer.Option(help="KIND=FOLDER.")],
    out: Annotated[Path, typer.Option(help="Picture to write (.png or .jpg).")],
    recipe: Annotated[str, typer.Option(help="Its sequences and augmentations; as for train.")] = "table3-6",
    number: Annotated[int, typer.Option(min=0, help="Which picture or video of the training part.")] = 0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Draw a sample of a data set with its maps and augmentations: the paper's Figures 3 and 4."""
    need("train", "torch", "pycocotools")
    from training.show import show as draw

    kind, root = name_and_value(data, "--data", "KIND=FOLDER")
    draw(recipe, kind, Path(root), number, seed, out, say_once)
    print(f"wrote {out}")


def _teacher(name: str, refine: Path | None, threads: int | None, stack: ExitStack) -> "Teacher":
    from runtime.backends import BackendOptions
    from runtime.session import Session
    from training.label.movenet import MoveNetTeacher
    from training.label.people_labels import BundleTeacher
    from training.label.rtm import RTM_TEACHERS, RtmTeacher

    if name.endswith(".onnx"):
        return MoveNetTeacher(Path(name), refine, threads)
    if refine is not None:
        raise WeightsError(f"--refine goes with MoveNet MultiPose as --teacher, not with {name}")
    if name in RTM_TEACHERS:
        if threads is not None:
            raise WeightsError(f"rtmlib takes the threads it wants; leave out --threads with --teacher {name}")
        return RtmTeacher(name)
    return BundleTeacher(stack.enter_context(Session.open(name, BackendOptions(threads=threads))))
