"""Runs all benchmarks of docs/benchmarks.md on this machine and updates the page. Takes about two hours on two cores.

python -m benchmarks.publish --video V --coco COCO --calibrate COCO --movenet MOVENET.onnx --results FOLDER

Each step is a separate command. A step whose results are already in FOLDER is skipped. On the page, only the text
between ``<!-- NAME -->`` and ``<!-- end -->`` is replaced. Plots go to docs/images.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.compare import comparison
from benchmarks.predict import predict as prediction
from benchmarks.run.bench_report import load_report
from benchmarks.run.bench_tables import tables
from stm_skeletons.errors import BenchmarkError
from stm_skeletons.files import atomic_write, make_folder
from stm_skeletons.table import Table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
THREADS = 2
SLOTS = (2, 3, 4, 8, 12)
SIZES = ("320x192", "640x384")
SOAK_SIZE = "160x96"
BOARDS = ("orin-nano-8gb", "orin-nano-8gb-super", "orin-nx-16gb", "agx-orin", "agx-xavier", "jetson-thor")
CARDS = ("rtx-a2000", "rtx-a4000")
_BLOCK = re.compile(r"(<!-- ([a-z0-9-]+) -->\n).*?(<!-- end -->)", re.S)


def steps(video: str, coco: str, calibrate: str, movenet: str) -> dict[str, list[str]]:
    """Arguments of ``stm-skeletons``, by the file or folder that each command writes; "{}" is the folder of results."""
    weights = "{}/edge.safetensors"
    edge = ["export", weights, "--every", "1", "--out"]
    found = {"edge.safetensors": ["init", "edge", "--from", "edge", "--out", weights]}
    found |= {
        f"edge-{precision}": [*edge, f"{{}}/edge-{precision}", "--precision", precision, "--video", video]
        for precision in ("int8", "bf16", "fp16")
    }
    found["edge-int8"] += ["--calibrate", f"coco={calibrate}"]
    found |= {f"edge-{size}": [*edge, f"{{}}/edge-{size}", "--size", size] for size in (*SIZES, SOAK_SIZE)}
    found |= {f"edge-{count}-slots": [*edge, f"{{}}/edge-{count}-slots", "--slots", str(count)] for count in SLOTS}
    fresh = "{}/resnet50.safetensors"
    found["resnet50.safetensors"] = ["init", "resnet50", "--out", fresh]
    found["resnet50"] = ["export", fresh, "--out", "{}/resnet50"]
    bf16 = ("--precision", "bf16", "--video", video)
    found["resnet50-bf16"] = ["export", fresh, "--out", "{}/resnet50-bf16", *bf16]

    def compare(name: str, frames: int, *arms: str, threads: int = THREADS, f1: bool = False) -> None:
        data = ("--data", f"coco={coco}") if f1 else ()
        command = ["bench", "compare", video, *arms, "--frames", str(frames), "--threads", str(threads), *data]
        found[name] = [*command, "--out", f"{{}}/{name}"]

    networks = f"movenet:{movenet}", "edge", "{}/edge-int8"
    compare("edge-movenet", 700, *networks, f1=True)
    backends = [
        f"{what},backend={backend}"
        for what in (f"movenet:{movenet}", "edge", "{}/edge-int8")
        for backend in ("onnxruntime", "openvino")
    ]
    for threads in (1, 2):
        compare(f"cpu-{threads}", 300, *backends, "{}/edge-bf16", threads=threads)
    large = ("{}/resnet50,backend=onnxruntime", "{}/resnet50,backend=openvino", "{}/resnet50-bf16")
    compare("resnet50-cpu", 30, *large, threads=1)
    compare("sizes", 300, "edge", *(f"{{}}/edge-{size}" for size in SIZES), f1=True)
    compare("slots", 300, "edge", *(f"{{}}/edge-{count}-slots" for count in SLOTS), f1=True)
    compare("threads", 200, "edge,threads=2", "edge,threads=1")
    compare("edge-eager", 60, "edge", f"eager:{weights},every=1", f"compiled:{weights},every=1")
    compare("resnet50-eager", 40, "{}/resnet50", f"eager:{fresh}", f"compiled:{fresh}")
    run = [
        "bench",
        "run",
        video,
        "--threads",
        str(THREADS),
        "--frames",
        "1000",
        "--streams",
        "1,2",
        "--data",
        f"coco={coco}",
    ]
    found["edge-run"] = [*run, "--out", "{}/edge-run"]
    found["int8-run"] = [*run, "--model", "{}/edge-int8", "--out", "{}/int8-run"]
    two = ["bench", "run", video, "--threads", "1", "--frames", "200", "--streams", "1,2"]
    found["one-thread-run"] = [*two, "--out", "{}/one-thread-run"]
    crowd = ["bench", "run", "{}/crowd.avi", "--threads", str(THREADS), "--frames", "1080"]
    found["people"] = [*crowd, "--out", "{}/people"]
    devices = [word for name in (*BOARDS, *CARDS) for word in ("--device", name)]
    found["predict-fp16"] = ["bench", "predict", "{}/edge-fp16", *devices, "--out", "{}/predict-fp16"]
    # One thread: with two, the slower one decides, so p99 depends more on the other load of the machine.
    soak = ["bench", "run", video, "--threads", "1", "--model", f"{{}}/edge-{SOAK_SIZE}", "--frames", "100000"]
    found["soak"] = [*soak, "--out", "{}/soak"]
    compare("resnet50-growing", 1000, "{}/resnet50", f"growing:{fresh}")
    return found


def measure(commands: dict[str, list[str]], results: Path, coco: str) -> None:
    """Run the steps that have no results yet. Raises BenchmarkError when a step fails."""
    make_folder(results)
    if not (results / "crowd.avi").exists():
        _run(["benchmarks.crowd", "--coco", coco, "--out", str(results / "crowd.avi")])
    for name, arguments in commands.items():
        if (results / name).exists():
            continue
        print(f"== {name}", flush=True)
        _run(["stm_skeletons", *(word.replace("{}", str(results)) for word in arguments)])


def _run(module: list[str]) -> None:
    if subprocess.run([sys.executable, "-m", *module], check=False).returncode:
        raise BenchmarkError(f"'python -m {' '.join(module)}' failed; see its messages above")


def blocks(results: Path) -> dict[str, str]:
    """Markdown of the results that are there, by the name of its block on the page."""
    found = {}
    for file in sorted(results.glob(f"*/{comparison.FILE_NAME}")):
        loaded = comparison.Comparison.model_validate_json(file.read_bytes())
        shown = comparison.tables(loaded)[: 2 if loaded.arms[0].f1 else 1]
        found[file.parent.name] = _text(shown)
    for file in sorted(results.glob("*/report.json")):
        report = load_report(file)
        by_title = {table.title.split(",")[0].partition(" (")[0]: table for table in tables(report)}
        for title, table in by_title.items():
            found[f"{file.parent.name}-{_slug(title)}"] = _text([table])
    for file in sorted(results.glob("*/predict.json")):
        made = [prediction.Prediction.model_validate(one) for one in json.loads(file.read_bytes())]
        found[file.parent.name] = _text(prediction.tables(made)[:1])
    return found


def _slug(title: str) -> str:
    return re.sub("[^a-z]+", "-", title.lower()).strip("-")


def _text(shown: list[Table]) -> str:
    return "\n\n".join(f"{table.title}:\n\n{table.markdown()}" for table in shown) + "\n"


def fill(page: Path, texts: dict[str, str]) -> list[str]:
    """Replace the page's blocks and return the names of the blocks that have no text."""
    missing: list[str] = []

    def replace(match: re.Match[str]) -> str:
        if match[2] not in texts:
            missing.append(match[2])
            return match[0]
        return f"{match[1]}\n{texts[match[2]]}\n{match[3]}"

    text = _BLOCK.sub(replace, page.read_text(encoding="utf-8"))
    with atomic_write(page) as partial:
        partial.write_text(text, encoding="utf-8")
    return missing


def copy_plots(page: Path, results: Path) -> None:
    """Copy the plots that the page shows: images/bench-FOLDER-NAME.png is FOLDER/NAME.png of the results."""
    for target in re.findall(r"\((images/bench-[^)]+\.png)\)", page.read_text(encoding="utf-8")):
        folder, _, name = Path(target).stem.removeprefix("bench-").rpartition("-")
        if (results / folder / f"{name}.png").is_file():
            shutil.copyfile(results / folder / f"{name}.png", page.parent / target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, text in (
        ("video", "video to measure on"),
        ("coco", "folder of COCO keypoints to measure F1 on"),
        ("calibrate", "folder of COCO keypoints to calibrate INT8 with"),
        ("movenet", "MoveNet MultiPose as ONNX"),
    ):
        parser.add_argument(f"--{option}", required=True, help=text)
    parser.add_argument("--results", type=Path, required=True, help="folder for the results of all steps")
    arguments = parser.parse_args()
    commands = steps(arguments.video, arguments.coco, arguments.calibrate, arguments.movenet)
    measure(commands, arguments.results, arguments.coco)
    missing = fill(PAGE, blocks(arguments.results))
    copy_plots(PAGE, arguments.results)
    print(f"wrote {PAGE}" + (f"; no results for {', '.join(missing)}" if missing else ""))


if __name__ == "__main__":
    main()
