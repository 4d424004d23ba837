"""How the command line finds its commands, and its messages if it cannot."""

import subprocess
import sys
from pathlib import Path

import pytest

import stm_skeletons
from stm_skeletons.cli import app
from stm_skeletons.libraries import panel

ROOT = Path(__file__).parents[2]
COMMANDS = {
    *("run", "info", "doctor", "build", "bench", "schema"),
    *("recipes", "train", "eval", "ablate", "label", "show"),
}
COMMANDS |= {"export", "init"}


def python(*arguments: str, at: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in folder ``at``; ``path``, if given, comes before installed packages."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": "" if path is None else str(path)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=at, env=environment)


def command_names(text: str) -> set[str]:
    return {words[1] for line in text.splitlines() if line.startswith("│") and len(words := line.split()) > 1}


def test_help_lists_every_command(tmp_path: Path):
    listed = python("-m", "stm_skeletons", "--help", at=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert command_names(listed.stdout) >= COMMANDS


def test_every_command_is_found_in_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(app, "entry_points", lambda **_: [])
    app._apps.cache_clear()
    try:
        apps = app._apps()
    finally:
        app._apps.cache_clear()
    found = {command.callback.__name__ for app in apps for command in app.registered_commands if command.callback}
    assert found | {"eval", "bench"} >= COMMANDS


def test_help_without_torch_lists_every_command_and_names_torch(tmp_path: Path):
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv[1:] = ['--help']; from stm_skeletons.cli import main; main()"
    )
    listed = python("-c", code, at=tmp_path)
    assert command_names(listed.stdout) >= COMMANDS
    text = " ".join(listed.stdout.split())
    assert "Training (not installed here: torch" in text
    assert "On a board ─" in text


def test_heading_names_missing_modules():
    assert panel("Training", "json") == "Training"
    assert panel("Training", "json", "no_such_thing") == "Training (not installed here: no_such_thing)"


def test_commands_are_found_by_name_in_other_packages(monkeypatch: pytest.MonkeyPatch):
    assert app.command("info").__module__ == "runtime.commands"
    assert app.command("eval").__module__ == "training.commands"
    with pytest.raises(LookupError, match="no command 'flies'"):
        app.command("flies")


def test_session_is_imported_from_the_package_on_first_use(tmp_path: Path):
    code = "import sys, stm_skeletons; assert 'cv2' not in sys.modules; print(stm_skeletons.Session.__module__)"
    assert python("-c", code, at=tmp_path).stdout.strip() == "runtime.session"
    with pytest.raises(AttributeError, match="no attribute 'Sesion'"):
        _ = stm_skeletons.Sesion  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", ["from stm_skeletons.cli import main; main()", "from stm_skeletons import Session"])
def test_user_file_that_hides_a_package_is_named(tmp_path: Path, code: str):
    """Python first searches the folder in which it is started."""
    (tmp_path / "runtime.py").write_text("")
    result = python("-c", code, at=tmp_path)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert f"{tmp_path / 'runtime.py'} hides this project's package 'runtime'; rename it" in last
