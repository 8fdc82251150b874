"""`scripts/setup`, on lock files that name two tiny packages of a folder: it asks no registry."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.servers import ROOT

SOURCES = re.compile(
    r".*INDEX.*|.*(FIND_LINKS|HOST|CERT|CERTS|TLS|PROXY|TIMEOUT|RETRIES|OFFLINE|CACHE_DIR|MIRROR|JSON_URL)"
    r"|.*(KEYRING|CREDENTIALS).*|PIP_CONFIG_FILE|UV_CONFIG_FILE"
)
"""Variables that say where packages come from, and how to get there."""


@dataclass(frozen=True)
class Project:
    """The files that the setup needs, and an environment that says where packages come from."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def setup(
        self, *arguments: str, kind: str = "--production", python: str | None = sys.executable, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / "scripts" / "setup", kind, *(["--python", python] if python else []), *arguments],
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def assert_has_the_package(self, folder: str = ".venv") -> None:
        program = self.folder / folder / "bin" / "python"
        greeting = subprocess.run(
            [program, "-c", "import greeting; print(greeting.TEXT)"], capture_output=True, text=True, check=False
        )
        assert (greeting.stdout, greeting.stderr) == ("hello\n", "")


def wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> str:
    """Makes a package of these files, and returns its line for a lock file."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    files = files | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{file},,\n" for file in (*files, f"{about}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            entry = zipfile.ZipInfo(file)
            entry.external_attr = 0o100755 << 16
            archive.writestr(entry, text)
    return f"{name}=={version} --hash=sha256:{sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture(scope="session")
def uv() -> str:
    """The uv that the project's own setup uses."""
    found = subprocess.run([ROOT / "scripts" / "setup", "--uv"], capture_output=True, text=True, check=True)
    name = found.stdout.strip()
    return str(ROOT / name) if "/" in name else str(shutil.which(name))


@pytest.fixture
def project(tmp_path: Path, uv: str) -> Project:
    """A project whose packages are in a folder that only the variables in its environment name; uv is on the path."""
    folder, packages, programs = (tmp_path / name for name in ("project", "packages", "programs"))
    for made in (packages, programs, folder / "requirements"):
        made.mkdir(parents=True)
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    (folder / "requirements" / "production.txt").write_text(
        wheel(packages, "greeting", "1.0", {"greeting.py": "TEXT = 'hello'\n"})
    )
    (programs / "uv").symlink_to(uv)
    environment = {
        "PATH": os.pathsep.join([str(programs), *path_without_uv()]),
        "HOME": str(tmp_path),
        "PIP_FIND_LINKS": str(packages),
        "PIP_NO_INDEX": "1",
        "UV_FIND_LINKS": str(packages),
        "UV_OFFLINE": "1",
        "UV_CACHE_DIR": str(tmp_path / "cache"),
    }
    return Project(folder, environment)


@pytest.fixture
def project_without_uv(project: Project, uv: str) -> Project:
    """The same, where pip has to install uv."""
    version = subprocess.run([uv, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    # The real one has 20 MB.
    program = {f"uv-{version}.data/scripts/uv": f'#!/bin/sh\nexec "{uv}" "$@"\n'}
    lock = wheel(Path(project.environment["PIP_FIND_LINKS"]), "uv", version, program)
    (project.folder / "requirements" / "uv.txt").write_text(lock)
    project.environment["PATH"] = os.pathsep.join(path_without_uv())
    return project


def path_without_uv() -> list[str]:
    return [folder for folder in os.environ["PATH"].split(os.pathsep) if not (Path(folder) / "uv").exists()]


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """A folder that the setup has not made, and that is the same after the test."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "letter").write_text("Dear")
    yield folder
    assert [file.name for file in folder.iterdir()] == ["letter"]
    assert (folder / "letter").read_text() == "Dear"


def test_it_makes_what_the_lock_file_names_and_then_has_nothing_to_do(project: Project) -> None:
    first = project.setup()
    second = project.setup()

    assert first.returncode == 0, first.stderr
    assert "installs the packages of requirements/production.txt" in first.stderr
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    project.assert_has_the_package()


@pytest.mark.usefixtures("precious")
def test_variables_of_the_shell_name_no_folder_and_no_python(project: Project) -> None:
    outcome = project.setup(VENV="../precious", VIRTUAL_ENV="../precious", PYTHON="/bin/false")

    assert outcome.returncode == 0, outcome.stderr
    project.assert_has_the_package()


@pytest.mark.usefixtures("precious")
def test_a_folder_that_it_has_not_made_is_left_alone(project: Project) -> None:
    outcome = project.setup("--into", "../precious")

    assert outcome.returncode == 1
    assert "../precious was not made by this script, so it is left alone" in outcome.stderr


@pytest.mark.parametrize("name", [".venv", ".uv"])
def test_a_folder_of_somebody_else_with_the_name_of_ours_is_left_alone(
    project: Project, precious: Path, name: str
) -> None:
    (project.folder / name).symlink_to(precious)
    (project.folder / "requirements" / "uv.txt").write_text("uv==0.0.0")

    outcome = project.setup(**({"PATH": os.pathsep.join(path_without_uv())} if name == ".uv" else {}))

    assert outcome.returncode == 1
    assert f"{name} was not made by this script, so it is left alone" in outcome.stderr


def test_another_folder_is_made_on_demand(project: Project) -> None:
    outcome = project.setup("--into", "a b/c")

    assert outcome.returncode == 0, outcome.stderr
    project.assert_has_the_package("a b/c")
    assert not (project.folder / ".venv").exists()


def test_what_a_setup_that_was_cut_off_has_left_is_made_again(project: Project) -> None:
    for half_made in (".venv", ".venv/lib"):
        (project.folder / half_made).mkdir(exist_ok=True)
        outcome = project.setup()
        assert outcome.returncode == 0, outcome.stderr
        project.assert_has_the_package()
        (project.folder / ".venv" / "setup-stamp").write_text("unfinished\n")
        (project.folder / ".venv" / "bin" / "python").unlink()


def test_a_python_that_was_named_is_remembered_when_the_packages_could_not_be_installed(
    project_without_python: Project,
) -> None:
    project = project_without_python
    failed = project.setup(python=sys.executable, UV_OFFLINE="1", UV_FIND_LINKS="")

    again = project.setup(python=None, UV_OFFLINE="1")

    assert failed.returncode != 0
    assert again.returncode == 0, again.stderr
    project.assert_has_the_package()


@pytest.mark.parametrize("arguments", [["--prodction"], ["--into"], ["--into", ""], ["--python", "/bin/false"]])
def test_arguments_that_it_does_not_know_change_nothing(project: Project, arguments: list[str]) -> None:
    before = set(project.folder.rglob("*"))

    outcome = project.setup(*arguments)

    assert outcome.returncode == 1
    assert outcome.stderr.startswith("setup: ")
    assert set(project.folder.rglob("*")) == before


def test_a_path_that_the_development_database_cannot_use_is_refused_at_once(project: Project, tmp_path: Path) -> None:
    for name in ('a"b', "a$b", "a`b", r"a\\b", "a\nb"):
        project = Project(project.folder.rename(tmp_path / name), project.environment)
        outcome = project.setup(kind="--benchmarks")
        assert outcome.returncode == 1
        assert f"PostgreSQL cannot use the path '{project.folder}'" in outcome.stderr
    # Production has no such database.
    assert project.setup().returncode == 0
    project.assert_has_the_package()


@pytest.fixture
def project_without_python(project: Project, tmp_path: Path) -> Project:
    """The same on a machine whose only Python does not suit, and which may fetch another."""
    programs = tmp_path / "programs"
    for name in ("cat", "cksum", "cut", "dirname", "env", "head", "mkdir", "rm", "rmdir", "sed", "sh", "sort", "tr"):
        (programs / name).symlink_to(str(shutil.which(name)))
    # It runs scripts, but says of itself nothing, by which the setup and uv would know it.
    (programs / "python3").write_text(f'#!/bin/sh\ncase "$*" in *" -c "*) exit 1 ;; esac\nexec {sys.executable} "$@"\n')
    (programs / "python3").chmod(0o755)
    del project.environment["UV_OFFLINE"]
    project.environment["PATH"] = str(programs)
    return project


def test_a_python_is_fetched_from_where_uvs_own_file_says(project_without_python: Project, tmp_path: Path) -> None:
    file = tmp_path / ".config" / "uv" / "uv.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f'required-version = "<0.1"\npython-install-mirror = "file://{tmp_path}/nowhere"\n')

    outcome = project_without_python.setup(python=None)

    assert outcome.returncode == 1
    assert "so uv fetches one" in outcome.stderr
    # uv's own reason.
    assert f"{tmp_path}/nowhere/" in outcome.stderr


@pytest.mark.parametrize("text", [None, "half ="])
def test_a_file_of_uv_that_cannot_be_read_is_named(project: Project, tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "uv.toml"
    if text:
        file.write_text(text)

    outcome = project.setup(UV_CONFIG_FILE=str(file))

    assert outcome.returncode == 1
    assert f"uv's settings in {file} cannot be read" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def variables(project: Project, uv: str) -> set[str]:
    """Every variable that pip and uv read, as their own help names them."""
    pip = [str(project.folder / ".uv" / "bin" / "python"), "-m", "pip"]
    commands = [[*pip, "--help"], [*pip, "install", "--help"], [*pip, "download", "--help"]]
    commands += [
        [uv, "help", "--no-pager", *name.split()] for name in ("venv", "sync", "pip sync", "pip compile", "run")
    ]
    text = "".join(subprocess.run(each, capture_output=True, text=True, check=True).stdout for each in commands)
    options = re.findall(r"(?<!\S)--([a-z][a-z-]+)", text)
    return {f"PIP_{name.replace('-', '_').upper()}" for name in options} | set(re.findall(r"\bUV_[A-Z_]+", text))


@pytest.mark.slow
def test_variables_of_pip_and_uv_decide_nothing_but_where_packages_come_from(
    project_without_uv: Project, uv: str
) -> None:
    project = project_without_uv
    assert project.setup().returncode == 0
    nonsense = {name: "nonsense" for name in variables(project, uv) if not SOURCES.fullmatch(name)}
    assert nonsense.keys() >= {"PIP_USER", "PIP_TARGET", "PIP_CONSTRAINT", "UV_EXCLUDE_NEWER", "UV_PYTHON"}
    for made in (".venv", ".uv"):
        shutil.rmtree(project.folder / made)

    outcome = project.setup(
        **nonsense, PIP_user="1", PYTHONHOME="/nonsense", PYTHONPATH="/nonsense", UV_TARGET="nonsense"
    )

    assert outcome.returncode == 0, outcome.stderr
    project.assert_has_the_package()


@pytest.mark.slow
def test_files_of_pip_and_uv_decide_nothing_but_where_packages_come_from(
    project_without_uv: Project, tmp_path: Path
) -> None:
    project = project_without_uv
    packages = project.environment["PIP_FIND_LINKS"]
    pip = "[global]\nno-index = true\ntarget = nonsense\nno-binary = :all:\n[install]\nuser = true"
    uv = '[pip]\ntarget = "nonsense"\nno-binary = [":all:"]\nfind-links = ["{}"]\n'
    for file, text in {
        ".config/pip/pip.conf": f"{pip}\nfind-links =\n    /nonsense\n    {packages}\n",
        ".config/uv/uv.toml": f'exclude-newer = "2001-01-01"\nrequired-version = "<0.1"\n{uv.format(packages)}',
        "etc/uv/uv.toml": "no-index = true\noffline = true\n",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(text)
    for name in ("PIP_FIND_LINKS", "PIP_NO_INDEX", "UV_FIND_LINKS", "UV_OFFLINE"):
        del project.environment[name]

    outcome = project.setup(XDG_CONFIG_DIRS=f"/nonsense:{tmp_path / 'etc'}")

    assert outcome.returncode == 0, outcome.stderr
    project.assert_has_the_package()


@pytest.mark.slow
def test_named_files_of_pip_and_uv_say_where_packages_come_from(project_without_uv: Project, tmp_path: Path) -> None:
    project = project_without_uv
    packages = project.environment["PIP_FIND_LINKS"]
    (tmp_path / "pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {packages}\nprefix = /nonsense\n")
    (tmp_path / "uv.toml").write_text(f'exclude-newer = "2001-01-01"\n[[index]]\nurl = "{packages}"\nformat = "flat"\n')
    for name in ("PIP_FIND_LINKS", "PIP_NO_INDEX", "UV_FIND_LINKS", "UV_OFFLINE"):
        del project.environment[name]

    outcome = project.setup(
        PIP_CONFIG_FILE=str(tmp_path / "pip.conf"), UV_CONFIG_FILE=str(tmp_path / "uv.toml"), UV_OFFLINE="1"
    )

    assert outcome.returncode == 0, outcome.stderr
    project.assert_has_the_package()
