"""The commands for training: recipes, train, eval, ablate, label and show."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stm_skeletons.cli.options import data_folders, name_and_value
from stm_skeletons.cli.progress import show_progress
from stm_skeletons.cli.say import say_once
from stm_skeletons.errors import DataError, WeightsError
from stm_skeletons.libraries import need, panel
from stm_skeletons.signals import stop_signals

if TYPE_CHECKING:
    from stm_skeletons.bundle import Bundle
    from training.evaluation.candidates import Candidate
    from training.label.people_labels import Teacher

app = typer.Typer()
_PANEL = panel("Training", "torch", "safetensors", "scipy", "lightning_fabric", "pycocotools", "matplotlib")


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) from text such as "448x256". Raises typer.BadParameter."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(f"'{text}' is not WIDTHxHEIGHT, such as 448x256", param_hint="--size")
    return int(width), int(height)


class Start(str, Enum):
    """How a sequence starts."""

    seed = "seed"
    cold = "cold"


_RECIPE = typer.Argument(help="Shipped recipe (see 'stm-skeletons recipes') or .toml file.")
_DATA = typer.Option(
    "--data",
    help="Data as KIND=FOLDER; repeat it for several kinds. KIND is coco, posetrack18, posetrack21 or footage.",
)
_TRAINING_THREADS = typer.Option(min=1, max=1024, help="CPU threads. Default: half of the cores.")
_THREADS = typer.Option(min=1, max=1024, help="CPU threads. Default: chosen by the inference library.")
_SEQUENCES = typer.Option(min=1, help="Largest number of sequences. Default: all.")
_FRAMES = typer.Option(min=2, help="Frames of a sequence.")
_START = typer.Option(
    help="Start of each sequence: cold (empty memory) or seed (first frame's labels, as in the paper)."
)
_OCCLUDED = typer.Option("--occluded", help="Evaluate with a moving occluder and blur.")


@app.command(rich_help_panel=_PANEL)
def recipes() -> None:
    """List the shipped recipes."""
    need("train", "torch", "safetensors")
    from training.recipe import load_recipe
    from training.recipe_files import SMALL, shipped_recipes

    names = shipped_recipes()
    for name in names:
        if name.removesuffix(SMALL) == name or name.removesuffix(SMALL) not in names:
            print(f"{name:38} {load_recipe(name).title}")
    print(
        f"For your own videos start with edge-footage, for images with edge-coco. Append {SMALL} to a name for its "
        "small version, which trains in minutes on two CPU cores."
    )


@app.command(rich_help_panel=_PANEL)
def train(
    recipe: Annotated[str, _RECIPE],
    data: Annotated[list[str], _DATA],
    out: Annotated[Path, typer.Option(help="Folder for runs. This run is written to OUT/RECIPE/seedN.")] = Path("runs"),
    init: Annotated[
        Path | None,
        typer.Option(help="Starting weights (.safetensors), see 'stm-skeletons init'. Default: random weights."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the run's checkpoint.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed. Default: the recipe's.")] = None,
    accelerator: Annotated[str, typer.Option(help="Accelerator: auto, cpu or cuda.")] = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="Devices per node. torchrun overrides it with its number of processes.")
    ] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines that train together.")] = 1,
    precision: Annotated[
        str, typer.Option(help="Number format of the training: 32-true, bf16-mixed or 16-mixed.")
    ] = "32-true",
    workers: Annotated[int, typer.Option(min=0, help="Data loader processes per device.")] = 2,
    threads: Annotated[int | None, _TRAINING_THREADS] = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 100,
    picture_minutes: Annotated[float, typer.Option(min=0.1, help="Minutes between saved prediction images.")] = 5.0,
) -> None:
    """Train a recipe; writes weights.safetensors (last step), best.safetensors and log.csv. Ctrl-C saves a checkpoint,
    from which --resume continues."""
    need("train", "torch", "safetensors", "lightning_fabric", "pycocotools", "tensorboard")
    from training.recipe_files import check_recipe

    check_recipe(recipe)
    _existing(data_folders([text for text in data if "=" in text]))
    if init is not None:
        _weights_file(init)
    from training.hardware import Hardware
    from training.recipe import load_recipe
    from training.recipe_run import run_recipe
    from training.train import LoggingOptions

    # A folder without a kind has the kind that the recipe needs.
    folders = data_folders([text if "=" in text else f"{load_recipe(recipe).data.kind}={text}" for text in data])
    hardware = Hardware(accelerator, devices, nodes, precision, workers, threads)
    logging_options = LoggingOptions(checkpoint_every, picture_minutes)
    result = run_recipe(recipe, folders, out, seed, init, resume, hardware, logging_options, say_once)
    if result.interrupted:
        say_once(f"stopped after {result.steps} steps; add --resume to the same command to continue")
        raise typer.Exit(130)
    print(
        f"validation F1: {result.first:.3f} before, {result.last:.3f} after {result.steps} steps, best "
        f"{result.best:.3f} after {result.best_step} (best.safetensors); wrote {result.weights}"
    )
    if result.last <= result.first:
        say_once(
            "training did not raise validation F1; compare both with 'stm-skeletons eval', which also shows mask and "
            "edges"
        )
    if result.waiting_share > 0.1:
        say_once(f"{100 * result.waiting_share:.0f}% of the time was spent waiting for samples; raise --workers")


@app.command("eval", rich_help_panel=_PANEL)
def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(help="Models to evaluate: weights (.safetensors), folders of bundles, shipped models."),
    ],
    data: Annotated[list[str], _DATA],
    out: Annotated[Path | None, typer.Option(help="Folder to write report.json, report.md, plots and CSV to.")] = None,
    start: Annotated[Start, _START] = Start.cold,
    frames: Annotated[int, _FRAMES] = 12,
    sequences: Annotated[int | None, _SEQUENCES] = None,
    occluded: Annotated[bool, _OCCLUDED] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Lowest score of a keypoint. Default: the one with the best F1 on these data.")
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(help="report.json of other data; each model uses the threshold that was best there."),
    ] = None,
    precision: Annotated[
        float | None, typer.Option(help="Use the lowest threshold with this precision, instead of the best F1.")
    ] = None,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls",
            help="Also evaluate what a memory must beat: each model without memory, and edge with fixed rules instead "
            "of its learnt fusion.",
        ),
    ] = False,
    baseline: Annotated[
        str | None, typer.Option(help="Weights or bundle to compare with; this one runs without memory.")
    ] = None,
    split: Annotated[str, typer.Option(help="Part of the data: val, train, or test (needs a splits.json).")] = "val",
    size: Annotated[
        str | None, typer.Option(help="For weights: input size as WIDTHxHEIGHT. Default: as trained.")
    ] = None,
    slots: Annotated[
        int | None, typer.Option(min=2, help="For weights: slots of the memory. Default: as trained, else 6.")
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(
            min=1, help="For weights: put every Nth frame into the ring of slots. Default: as trained, else 5."
        ),
    ] = None,
    threads: Annotated[int | None, _THREADS] = None,
) -> None:
    """Evaluate models on labelled data: AP of people, tracking, precision, recall and F1, recall over time."""
    need("train", "torch", "safetensors", "pycocotools", "matplotlib")
    from training.evaluation.conditions import Conditions

    folders = _existing(data_folders(data))
    pixels = None if size is None else parse_size(size)
    conditions = Conditions(split, start.value, frames, sequences, occluded, threshold, thresholds, precision, controls)
    named = models if baseline is None else [*models, baseline]
    sources = {model: _source(model) for model in named}
    # What takes seconds to import comes after everything that may be misspelt.
    from runtime.backends import BackendOptions
    from runtime.session import Session
    from training.evaluation.candidates import Candidate, candidate_from_weights, evaluate_candidates
    from training.evaluation.report_files import print_report, write_report

    with ExitStack() as stack:

        def candidate(model: str) -> "Candidate":
            source = sources[model]
            if isinstance(source, Path):
                return candidate_from_weights(source, pixels, slots, every, threads)
            session = stack.enter_context(Session.open(source, BackendOptions(threads=threads)))
            info = session.info
            name, threshold = Path(model).name, info.person_threshold
            return Candidate(name, session, info.skeleton, info.channels, info.size, person_threshold=threshold)

        candidates = _distinct([candidate(model) for model in models], models)
        baseline_candidate = None if baseline is None else candidate(baseline)
        for kind, root in folders.items():
            with show_progress() as progress:
                report = evaluate_candidates(candidates, kind, root, conditions, say_once, progress, baseline_candidate)
            print_report(report)
            if out is not None:
                folder = out / kind if len(folders) > 1 else out
                write_report(report, folder)
                print(f"wrote {folder}")


def _existing(folders: dict[str, Path]) -> dict[str, Path]:
    """The folders by kind. Raises DataError if one does not exist."""
    from training.data.open import check_data

    for kind, folder in folders.items():
        check_data(kind, folder)
    return folders


def _source(model: str) -> "Path | Bundle":
    """The weights file or opened bundle that a model names. Raises WeightsError or BundleError if there is none."""
    from stm_skeletons.bundle import Bundle

    return _weights_file(Path(model)) if model.endswith(".safetensors") else Bundle.open(model)


def _weights_file(path: Path) -> Path:
    """The path. Raises WeightsError if there is no such file, as loading would after seconds of imports."""
    if not path.is_file():
        raise WeightsError(f"no weights file {path}; make one with 'stm-skeletons init'")
    return path


def _distinct(candidates: "list[Candidate]", models: list[str]) -> "list[Candidate]":
    """Candidates of the same name under the names that the user gave: 'edge' and 'edge.safetensors'."""
    names = [each.name for each in candidates]
    return [
        each if names.count(each.name) == 1 else replace(each, name=model)
        for each, model in zip(candidates, models, strict=True)
    ]


@app.command(rich_help_panel=_PANEL)
def ablate(
    recipes: Annotated[list[str], typer.Argument(help="Shipped recipes (see 'stm-skeletons recipes') or .toml files.")],
    data: Annotated[list[str], _DATA],
    out: Annotated[Path, typer.Option(help="Folder for runs, reports and tables. Finished runs in it are reused.")],
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds: 0, 1, 2 ...")] = 3,
    init: Annotated[
        list[str] | None,
        typer.Option(help="Starting weights as VARIANT=FILE, such as edge=edge.safetensors; repeat it for several."),
    ] = None,
    start: Annotated[Start, _START] = Start.seed,
    frames: Annotated[int, _FRAMES] = 12,
    sequences: Annotated[int | None, _SEQUENCES] = None,
    occluded: Annotated[bool, _OCCLUDED] = False,
    accelerator: Annotated[str, typer.Option(help="Accelerator: auto, cpu or cuda.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Data loader processes.")] = 2,
    threads: Annotated[int | None, _TRAINING_THREADS] = None,
) -> None:
    """Train and evaluate recipes over several seeds, and fill in the paper's tables and Figure 7."""
    need("train", "torch", "safetensors", "lightning_fabric", "pycocotools", "tensorboard", "matplotlib")
    from training.recipe_files import check_recipe

    for recipe in recipes:
        check_recipe(recipe)
    folders = _existing(data_folders(data))
    from training.ablation.ablate import Plan
    from training.ablation.ablate import ablate as run_ablation
    from training.evaluation.conditions import Conditions
    from training.hardware import Hardware

    weights = {
        variant: Path(path)
        for variant, path in (name_and_value(text, "--init", "VARIANT=WEIGHTS") for text in init or [])
    }
    conditions = Conditions(start=start.value, frames=frames, sequences=sequences, occluded=occluded)
    plan = Plan(tuple(recipes), tuple(range(seeds)), folders, weights, conditions)
    hardware = Hardware(accelerator=accelerator, workers=workers, threads=threads)
    try:
        tables = run_ablation(plan, out, hardware, say=say_once)
    except KeyboardInterrupt:
        say_once(f"stopped; {out} keeps what is done, and the same command continues")
        raise typer.Exit(130) from None
    _print_markdown(tables.read_text(encoding="utf-8"))
    print(f"wrote {out}")


def _print_markdown(text: str) -> None:
    """Rendered on a terminal, as it is when piped."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text, end="")


@app.command(rich_help_panel=_PANEL)
def label(
    sources: Annotated[list[Path], typer.Argument(help="Video files or folders of images to label.")],
    out: Annotated[Path, typer.Option(help="Folder to write the labels (JSON) and a contact sheet of each source to.")],
    teacher: Annotated[
        str,
        typer.Option(
            help="Network that labels: a shipped model, the folder of a bundle or MoveNet MultiPose (.onnx); with "
            "rtmlib also rtmo-s, rtmo-m, rtmo-l, rtmpose-s, rtmpose-m or rtmpose-x."
        ),
    ] = "edge",
    refine: Annotated[
        Path | None,
        typer.Option(help="MoveNet Thunder (.onnx), which refines each person that MoveNet MultiPose finds."),
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Label every Nth frame.")] = 1,
    first_frame: Annotated[int, typer.Option(min=0, help="First frame to label, counted from 0.")] = 0,
    max_frames: Annotated[
        int | None,
        typer.Option(min=1, help="Stop each source after this many of its frames. Default: label it to the end."),
    ] = None,
    threads: Annotated[int | None, _THREADS] = None,
) -> None:
    """Label footage with a teacher network, to train on it; then check the contact sheet. Run it again to continue
    after an interruption."""
    need("train", "scipy")
    from training.label.label import labels_name

    names = [labels_name(source) for source in sources]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"several sources are named '{duplicates[0]}'; label them with a separate --out each")
    with ExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        opened_teacher = _teacher(teacher, refine, threads, stack)
        for source in sources:
            if not stop.is_set():
                _label(source, out, opened_teacher, every, (first_frame, max_frames), stop.is_set)


def _label(
    source: Path,
    out: Path,
    teacher: "Teacher",
    every: int,
    part: tuple[int, int | None],
    should_stop: Callable[[], bool],
) -> None:
    """Label a video or folder; ``part``: the first frame and the number of frames."""
    from runtime.images import ImageSource
    from runtime.sources import open_source
    from training.label.label import label as label_frames

    first, count = part
    with ExitStack() as stack:
        opened = open_source(str(source))
        stack.callback(opened.close)
        if opened.live:
            raise DataError(
                f"{source} is a camera or stream; record it first, because training reads labelled footage again"
            )
        progress = stack.enter_context(show_progress())
        left = [opened.total and opened.total - first, count]
        total = min((each for each in left if each is not None), default=None)
        summary = label_frames(
            islice(opened, first, None if count is None else first + count),
            source,
            out,
            teacher,
            every,
            opened.files if isinstance(opened, ImageSource) else None,
            should_stop,
            first,
            lambda number: progress(f"labelling {source.name}, frames", number - first + 1, total),
        )
    print(
        f"{summary.frames} frames, {summary.people} poses labelled, {summary.unsure} too uncertain, which training "
        f"ignores; wrote {summary.labels}; check {summary.contact_sheet} before training"
    )
    if not summary.added:
        say_once(f"all frames were labelled before; to label them again, delete {summary.labels}")
    if summary.unsure and not summary.people:
        say_once("no person scores high enough to be labelled; a model with untrained edges cannot separate people")
    if not summary.complete:
        say_once("stopped before the end; run the same command again to continue")


@app.command(rich_help_panel=_PANEL)
def show(
    data: Annotated[str, typer.Option(help="Data as KIND=FOLDER.")],
    out: Annotated[Path, typer.Option(help="Image to write (.png or .jpg).")],
    recipe: Annotated[
        str, typer.Option(help="Recipe that defines sequences and augmentations; a name or .toml file.")
    ] = "table3-6",
    number: Annotated[
        int, typer.Option(min=0, help="Image or video of the training part to draw, counted from 0.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
) -> None:
    """Draw a training sample with its maps and augmentations, as in the paper's Figures 3 and 4."""
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
        raise WeightsError(f"--refine needs MoveNet MultiPose as --teacher, not {name}")
    if name in RTM_TEACHERS:
        if threads is not None:
            raise WeightsError(f"--threads does not apply to --teacher {name}, as rtmlib chooses its own; remove it")
        return RtmTeacher(name)
    return BundleTeacher(stack.enter_context(Session.open(name, BackendOptions(threads=threads))))
