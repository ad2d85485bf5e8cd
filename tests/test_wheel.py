"""What people install: the wheel holds every file of the package, and draws in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

import sfumato

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "sfumato"
SETTINGS = {"seed": 3, "steps": 2}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ["hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run([sys.executable, "-m", *build], check=True, cwd=ROOT, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    expected = {
        f"sfumato/{path.relative_to(PACKAGE).as_posix()}"
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
    assert not expected - found
    information = {name for name in found - expected if ".dist-info/" in name}
    assert found - expected == information
    for licence in ("LICENSE", "NOTICE"):
        assert any(name.endswith(f"licenses/{licence}") for name in information)


def test_an_installed_wheel_draws(wheel: Path, tmp_path: Path) -> None:
    """In a fresh environment, without network: dependencies are those of the environment that runs the tests."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    present = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "dependencies.pth").write_text("\n".join(present))
    install = ["install", "--quiet", "--no-compile", "--no-deps", "--no-index"]
    run(sys.executable, "-m", "pip", "--python", python, *install, wheel)
    assert packages in Path(run(python, "-c", "import sfumato; print(sfumato.__file__)").strip()).parents
    options = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    run(python.with_name("sfumato"), "txt2img", "a red apple", *options, "--out", "apple.png")
    drawn = Image.open(tmp_path / "apple.png").convert("RGB")
    assert drawn.tobytes() == sfumato.load(device="cpu").txt2img("a red apple", **SETTINGS).images[0].tobytes()
