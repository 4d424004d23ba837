"""Each planted mistake of mutations.toml is caught by the test that is named there; docs/tensorrt.md lists them."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from stm_skeletons.bundle import Bundle

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACKAGES = ("runtime", "stm_skeletons")
TESTS = ("contract", "gpu", "runtime", "stm_skeletons")
NOTICED = re.compile(r"- (AssertionError|assert |Failed: |stm_skeletons\.errors\.)")
"""In pytest's summary: something was checked. On other errors any program would stumble, the mistake is no good one."""
# In place of tests/conftest.py, which loads PyTorch; and sees to it that the mistake is in what is tested.
CONFTEST = """
import os
from pathlib import Path

import hypothesis
import pytest

import runtime
import stm_skeletons

ROOT = Path(__file__).parents[1]
for package in (runtime, stm_skeletons):
    assert Path(package.__file__).parent.parent == ROOT, f"{package} is not the copy"
# A counterexample is enough, it need not be the smallest.
phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
hypothesis.settings.register_profile("quick", phases=phases)
hypothesis.settings.load_profile("quick")


@pytest.fixture(scope="session")
def clip():
    return Path(os.environ["CLIP"])


@pytest.fixture(scope="session")
def edge_bundle():
    return Path(os.environ["STM_SKELETONS_GPU_BUNDLES"]) / "fp32"


@pytest.fixture(scope="session")
def resnet_bundle():
    return Path(os.environ["STM_SKELETONS_GPU_BUNDLES"]) / "resnet50"
"""


@dataclass(frozen=True)
class Mistake:
    """A change of one place, and how it is caught."""

    what: str
    file: str
    old: str
    """What is there, exactly once."""
    new: str
    test: str
    """The test that fails, below tests/."""
    shows: str
    """Part of what its failure says."""
    how: str
    """The same in words."""


MISTAKES = [
    Mistake(**table)
    for table in tomllib.loads(Path(__file__).with_name("mutations.toml").read_text("utf-8"))["mistake"]
]
each = pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.what for mistake in MISTAKES])


def copy(target: Path) -> Path:
    """What a test run needs, in a folder of its own."""
    ignored = shutil.ignore_patterns("__pycache__", "models")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, target / package, ignore=ignored)
    for tests in TESTS:
        shutil.copytree(ROOT / "tests" / tests, target / "tests" / tests, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", target)
    (target / "tests" / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    return target


def plant(mistake: Mistake, root: Path) -> None:
    file = root / mistake.file
    text = file.read_text(encoding="utf-8")
    assert text.count(mistake.old) == 1, f"{mistake.file} has changed: it has {text.count(mistake.old)} x {mistake.old}"
    file.write_text(text.replace(mistake.old, mistake.new), encoding="utf-8")


def run_tests(root: Path, bundles: Path, clip: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-m", "gpu or not gpu", "-q", "--tb=short", "-p", "no:cacheprovider"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "STM_SKELETONS_GPU_BUNDLES": str(bundles),
        "CLIP": str(clip),
        "COLUMNS": "400",
    }
    return subprocess.run(
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="session")
def bundles(device, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once for all; what conftest.py looks for."""
    if not device.simulated:
        pytest.skip("a GPU has a schedule of its own, and it need not show a mistake")
    folder = tmp_path_factory.mktemp("bundles")
    for name in ("fp32", "fp16", "resnet50", "stm"):
        bundle: Bundle = request.getfixturevalue(f"{name}_bundle" if name.startswith("fp") else name)
        (folder / name).symlink_to(bundle.folder)
    return folder


@each
def test_a_mistake_can_be_planted(mistake: Mistake, tmp_path: Path):
    """Quick, for those who change the code: then the list has to follow."""
    (tmp_path / mistake.file).parent.mkdir(parents=True)
    shutil.copy(ROOT / mistake.file, tmp_path / mistake.file)
    plant(mistake, tmp_path)
    compile((tmp_path / mistake.file).read_text(encoding="utf-8"), mistake.file, "exec")


@pytest.mark.gpu
@pytest.mark.slow
def test_without_a_mistake_these_tests_pass(bundles: Path, clip: Path, tmp_path: Path):
    tests = sorted({mistake.test for mistake in MISTAKES})
    result = run_tests(copy(tmp_path / "copy"), bundles, clip, *tests)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(tests)} passed" in result.stdout


@pytest.mark.gpu
@pytest.mark.slow
@each
def test_a_planted_mistake_is_caught(mistake: Mistake, bundles: Path, clip: Path, tmp_path: Path):
    root = copy(tmp_path / "copy")
    plant(mistake, root)
    result = run_tests(root, bundles, clip, mistake.test)
    assert result.returncode == 1, f"not caught (code {result.returncode}): {result.stdout}{result.stderr}"
    lines = result.stdout.splitlines()
    failed = [
        line for line in lines if line.startswith((f"FAILED tests/{mistake.test} ", f"ERROR tests/{mistake.test} "))
    ]
    assert failed, result.stdout
    assert all(NOTICED.search(line) for line in failed), failed
    assert any(mistake.shows in line for line in lines if line.startswith(("FAILED ", "ERROR ", "E  "))), result.stdout


def test_the_documentation_lists_them_all():
    text = (ROOT / "docs" / "tensorrt.md").read_text(encoding="utf-8")
    section = text.partition("\n## Planted mistakes\n")[2].partition("\n## ")[0]
    found = [line for line in section.splitlines() if re.match(r"\| (?!mistake|---)", line)]
    assert found == [row(mistake) for mistake in MISTAKES]


def row(mistake: Mistake) -> str:
    test = mistake.test.rpartition("::")[2]
    return f"| {mistake.what} | `{mistake.file}` | `{test}` | {mistake.how} |"
