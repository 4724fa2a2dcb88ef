"""The built wheel works without the checkout, and a stranger's ``data`` cannot stand in for ours."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel holds, as site-packages would."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(REPO)], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.append({str(installed)!r}); from align.__main__ import main"
    command = [sys.executable, "-S", "-c", f"{code}; sys.exit(main({list(words)!r}))"]
    site = ":".join(path for path in sys.path if path.endswith("site-packages"))
    environment = {"PYTHONPATH": site, "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_wheel_runs_beside_a_decoy_folder(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pairs.txt").write_text("no package")
    done = run(installed, tmp_path, "stage=show", "dataset.pairs=50", "dataset.prompts=20", "run.dir=r")
    assert done.returncode == 0, done.stderr
    assert "example 1" in done.stdout
    assert (installed / "align" / "conf" / "config.yaml").is_file()


@pytest.mark.slow
def test_the_wheel_holds_the_pages(installed: Path) -> None:
    """Templates, style and script are no modules: a wheel leaves such files out unless it is told."""
    for part, known in (("templates", "annotate.html"), ("static", "annotate.js")):
        here, there = (root / "align" / "annotate" / part for root in (REPO, installed))
        files = {path.name: path.read_bytes() for path in here.iterdir()}
        assert known in files
        assert {path.name: path.read_bytes() for path in there.iterdir()} == files


@pytest.mark.slow
def test_a_strangers_package_of_our_name_is_refused_by_name(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "__init__.py").write_text("")
    done = run(installed, tmp_path, "stage=show", "run.dir=r")
    assert done.returncode == 2, done.stderr
    assert f"the package 'data' that Python finds is {tmp_path / 'data'}" in done.stderr
    assert "Traceback" not in done.stderr
