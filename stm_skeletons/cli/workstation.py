"""What a workstation runs: weights, training, evaluation, export."""

from collections.abc import Callable
from contextlib import ExitStack
from enum import Enum
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stm_skeletons.cli.say import say
from stm_skeletons.errors import DataError, RecipeError, WeightsError
from stm_skeletons.libraries import need
from stm_skeletons.signals import stop_signals

if TYPE_CHECKING:
    from training.evaluation.run import Candidate
    from training.label.people import Teacher

app = typer.Typer()


class Precision(str, Enum):
    """What a bundle's graphs compute in."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"
    int8_cpu = "int8-cpu"


class Variant(str, Enum):
    """The networks there are."""

    edge = "edge"
    resnet50 = "resnet50"
    stm = "stm"


@app.command()
def export(
    weights: Annotated[Path, typer.Argument(help="Weights (.safetensors) of this project.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    size: Annotated[str, typer.Option(help="Network input, width x height, multiples of 32.")] = "448x256",
    slots: Annotated[
        int | None, typer.Option(help="Frames in memory: the first, the previous and a ring; as trained, else 6.")
    ] = None,
    every: Annotated[int | None, typer.Option(help="The ring takes every n-th frame; as trained, else 5.")] = None,
    peaks: Annotated[int, typer.Option(help="Peaks a joint: the largest number of people.")] = 30,
    compact: Annotated[
        bool | None,
        typer.Option(
            help="Round weights to FP16 and store them so, compute stays FP32; edge in fp32 always unless told."
        ),
    ] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Keypoints are reported from this score on.")] = 0.3,
    precision: Annotated[
        Precision,
        typer.Option(help="fp16 and int8 are for GPUs, int8-cpu for CPUs; they must find what fp32 finds in --video."),
    ] = Precision.fp32,
    video: Annotated[
        str | None, typer.Option(help="Footage of at least 500 frames, for all but fp32: video or folder of images.")
    ] = None,
) -> None:
    """Turn weights into a verified bundle of three ONNX graphs."""
    need("export", "torch", "safetensors", "onnx", "onnxslim", "matplotlib", "scipy")
    from export.export import Options, export_bundle
    from training.model.weights import load_provenance

    width, height = _parse_size(size)
    provenance = load_provenance(weights)
    trained_slots, trained_every = provenance.memory
    options = Options(
        width,
        height,
        trained_slots if slots is None else slots,
        trained_every if every is None else every,
        peaks,
        precision is Precision.fp32 and provenance.config.variant == "edge" if compact is None else compact,
        precision=precision.value,
        video=video,
        keypoint_threshold=threshold,
    )
    report = export_bundle(weights, out, options, _say)
    for name, difference in report.graphs.items():
        print(f"{name}: within {difference:.1e} of PyTorch")
    print(f"closed loop: maps and memory within {report.closed_loop:.1e} of PyTorch")
    if report.gate is not None:
        print(f"gate: {report.gate.summary}")
    print(f"wrote {out}")


def _parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(f"'{text}' is not WIDTHxHEIGHT, for instance 448x256", param_hint="--size")
    return int(width), int(height)


@app.command()
def init(
    variant: Annotated[Variant, typer.Argument(help="The network.")],
    out: Annotated[Path, typer.Option(help="Weights file to write (.safetensors).")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="For edge a bundle (a folder, or 'edge': the shipped weights) or MoveNet MultiPose's .onnx; for "
            "resnet50 and stm STM's official .pth.",
        ),
    ] = None,
    skeleton: Annotated[str, typer.Option(help="coco17 or posetrack15.")] = "coco17",
    edges_only: Annotated[bool, typer.Option("--edges-only", help="resnet50 without keypoint maps.")] = False,
    random_seed: Annotated[int, typer.Option(help="For the layers that start at random.")] = 0,
) -> None:
    """Make the starting weights of a network, from a bundle, from other projects' weights or fresh."""
    need("train", "torch", "safetensors", *(["onnx"] if variant is Variant.edge and source else []))
    from stm_skeletons.bundle import shipped_models
    from training.model.init import init_weights, network

    config = network(variant.value, skeleton, edges_only)
    if source is not None and (source.is_dir() or str(source) in shipped_models()):
        need("init --from BUNDLE", "onnx", "onnxslim")
        from export.recover import recover_weights

        origin = recover_weights(config, out, source)
    else:
        origin = init_weights(config, out, source, random_seed)
    print(f"wrote {out}: {variant.value}, {origin}")


class Start(str, Enum):
    """How a sequence begins."""

    seed = "seed"
    cold = "cold"


_RECIPE = typer.Argument(help="Name of a shipped recipe ('stm-skeletons recipes' lists them), or a .toml file.")
_DATA = typer.Option(
    "--data", help="KIND=FOLDER, once for each kind: coco, posetrack18, posetrack21, footage. See docs/training.md."
)
_TRAINING_THREADS = typer.Option(min=1, max=1024, help="CPU threads; half of the cores without.")


@app.command()
def recipes() -> None:
    """List the shipped recipes."""
    need("train", "torch", "safetensors")
    from training.recipe import load_recipe, shipped_recipes

    for name in shipped_recipes():
        print(f"{name:26} {load_recipe(name).title}")


@app.command()
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
    from training.run import run_recipe
    from training.train import Habits, Hardware

    folders = data_folders(data, recipe)
    hardware = Hardware(accelerator, devices, nodes, precision, workers, threads)
    habits = Habits(checkpoint_every, picture_minutes)
    result = run_recipe(recipe, folders, out, seed, init, resume, hardware, habits, _say)
    if result.interrupted:
        _say(f"stopped after {result.steps} steps; the same command with --resume goes on")
        raise typer.Exit(130)
    print(
        f"{result.steps} steps; best validation F1 {result.best:.3f} at step {result.best_step}; wrote {result.weights}"
    )
    _say(f"{100 * result.waiting_share:.1f} % of the time was spent waiting for samples")


@app.command("eval")
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
    from runtime.session import Session
    from training.evaluation.report import print_report, write_report
    from training.evaluation.run import Candidate, Conditions, candidate_from_weights, evaluate_candidates

    folders = data_folders(data)
    pixels = None if size is None else _parse_size(size)
    conditions = Conditions(split, start.value, frames, sequences, occluded, threshold, thresholds, precision, controls)
    with ExitStack() as stack:

        def candidate(model: str) -> "Candidate":
            if model.endswith(".safetensors"):
                return candidate_from_weights(Path(model), pixels, slots, every, threads)
            session = stack.enter_context(Session.open(model, threads=threads))
            info = session.info
            name, threshold = Path(model).name, info.person_threshold
            return Candidate(name, session, info.skeleton, info.channels, info.size, person_threshold=threshold)

        candidates = [candidate(model) for model in models]
        held_against = None if baseline is None else candidate(baseline)
        for kind, root in folders.items():
            report = evaluate_candidates(candidates, kind, root, conditions, _say, baseline=held_against)
            print_report(report)
            if out is not None:
                folder = out / kind if len(folders) > 1 else out
                write_report(report, folder)
                print(f"wrote {folder}")


@app.command()
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
    from training.evaluation.run import Conditions
    from training.train import Hardware

    weights = {
        variant: Path(path) for variant, path in (_pair(text, "--init", "VARIANT=WEIGHTS") for text in init or [])
    }
    conditions = Conditions(start=start.value, frames=frames, sequences=sequences, occluded=occluded)
    plan = Plan(tuple(recipes), tuple(range(seeds)), data_folders(data), weights, conditions)
    tables = run_ablation(plan, out, Hardware(accelerator=accelerator, workers=workers, threads=threads), say=_say)
    print(tables.read_text(), end="")
    print(f"wrote {out}")


@app.command()
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
        for source in sources:
            if not asked.is_set():
                _label(source, out, (teacher, refine, threads), every, (first_frame, max_frames), asked.is_set)


def _label(
    source: Path,
    out: Path,
    teacher: tuple[str, Path | None, int | None],
    every: int,
    part: tuple[int, int | None],
    asked: Callable[[], bool],
) -> None:
    """Label one video or folder: ``part`` is its first frame and how many of them."""
    from runtime.sources import ImageSource, open_source
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
            _teacher(*teacher, stack),
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
        _say("the teacher is sure of nobody: a model whose edges are not trained cannot tell people apart")
    if not summary.complete:
        _say("not to the end; the same command goes on")


@app.command()
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

    kind, root = _pair(data, "--data", "KIND=FOLDER")
    draw(recipe, kind, Path(root), number, seed, out, _say)
    print(f"wrote {out}")


def _teacher(name: str, refine: Path | None, threads: int | None, stack: ExitStack) -> "Teacher":
    from runtime.session import Session
    from training.label.movenet import MoveNetTeacher
    from training.label.people import BundleTeacher
    from training.label.rtm import RTM_TEACHERS, RtmTeacher

    if name.endswith(".onnx"):
        return MoveNetTeacher(Path(name), refine, threads)
    if refine is not None:
        raise WeightsError(f"--refine goes with MoveNet MultiPose as --teacher, not with {name}")
    if name in RTM_TEACHERS:
        if threads is not None:
            raise WeightsError(f"rtmlib takes the threads it wants; leave out --threads with --teacher {name}")
        return RtmTeacher(name)
    return BundleTeacher(stack.enter_context(Session.open(name, threads=threads)))


def data_folders(texts: list[str], recipe: str | None = None) -> dict[str, Path]:
    """KIND=FOLDER of every text; a folder alone is for the kind that the recipe needs."""
    folders: dict[str, Path] = {}
    for text in texts:
        if recipe is not None and "=" not in text:
            from training.recipe import load_recipe

            text = f"{load_recipe(recipe).data.kind}={text}"
        kind, folder = _pair(text, "--data", "KIND=FOLDER")
        if kind in folders:
            raise RecipeError(f"--data {kind} is given twice; one folder for each kind")
        folders[kind] = Path(folder)
    return folders


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise typer.BadParameter(f"'{text}' is not {form}", param_hint=option)
    return name, value


@cache
def _say(line: str) -> None:
    """To the user, each line once."""
    say(line)
