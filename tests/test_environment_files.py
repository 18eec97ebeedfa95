"""`pyproject.toml`, `requirements.lock` and `environment.yml` describe one environment."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PYTHONS = ("3.11.0", "3.11.15", "3.12.0", "3.13.0")


@pytest.fixture(scope="module")
def project(repository) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def lock(repository) -> list[Requirement]:
    return [Requirement(line) for line in (repository / "requirements.lock").read_text(encoding="utf-8").splitlines()]


def declared(project: dict) -> list[Requirement]:
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return [Requirement(line) for line in [*project["dependencies"], *extras]]


def environment(python: str, platform: str) -> dict[str, str]:
    return {
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": platform,
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "os_name": "nt" if platform == "win32" else "posix",
    }


def pins(lock: list[Requirement], python: str, platform: str) -> dict[str, str]:
    """Name to version of what the lock installs there; each name must be pinned exactly once."""
    chosen = [r for r in lock if r.marker is None or r.marker.evaluate(environment(python, platform))]
    names = [canonicalize_name(r.name) for r in chosen]
    assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)
    return {canonicalize_name(r.name): next(iter(r.specifier)).version for r in chosen}


def test_lock_holds_exact_versions_and_no_address(repository, lock):
    text = (repository / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*-", text, flags=re.MULTILINE)
    for requirement in lock:
        assert [s.operator for s in requirement.specifier] == ["=="], requirement
        assert requirement.url is None


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("python", PYTHONS)
def test_every_declared_range_holds_its_pin(project, lock, python, platform):
    pinned = pins(lock, python, platform)
    for requirement in declared(project):
        name = canonicalize_name(requirement.name)
        assert name in pinned, requirement
        assert pinned[name] in requirement.specifier, f"{requirement} does not allow {pinned[name]}"


def test_torch_and_torchvision_are_the_pair_that_works_together(lock):
    pinned = pins(lock, "3.11.15", "linux")
    assert (pinned["torch"], pinned["torchvision"]) == ("2.14.1", "0.29.1")


def test_graphics_libraries_are_for_linux_only(lock):
    assert any(name.startswith("nvidia-") for name in pins(lock, "3.12.0", "linux"))
    assert not any(name.startswith("nvidia-") for name in pins(lock, "3.12.0", "darwin"))


def test_conda_installs_the_lock_under_the_same_python(repository, project):
    conda = yaml.safe_load((repository / "environment.yml").read_text(encoding="utf-8"))
    packages = [entry for entry in conda["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in conda["dependencies"] if not isinstance(entry, str)]
    requirements = {r.name: r.specifier for r in map(Requirement, packages)}
    # No library comes from conda, so no version can differ from the lock.
    assert set(requirements) == {"python", "pip"}
    assert requirements["python"] == SpecifierSet(project["requires-python"])
    assert pip == ["--requirement requirements.lock", "--editable ."]


def test_supported_pythons_are_the_same_everywhere(repository, project):
    specifier = SpecifierSet(project["requires-python"])
    script = (repository / "tools" / "env.sh").read_text(encoding="utf-8")
    low, high = re.search(r"\((3, \d+)\) <= sys.version_info\[:2\] <= \((3, \d+)\)", script).groups()
    for minor in range(8, 18):
        allowed = eval(f"({low})") <= (3, minor) <= eval(f"({high})")
        assert (f"3.{minor}.0" in specifier) == allowed
    assert f"{sys.version_info.major}.{sys.version_info.minor}.0" in specifier


def test_the_running_environment_is_the_locked_one_for_torch(lock):
    from importlib.metadata import version

    pinned = pins(lock, ".".join(map(str, sys.version_info[:3])), sys.platform)
    assert {name: version(name).split("+")[0] for name in ("torch", "torchvision", "numpy", "nbval")} == {
        name: pinned[name] for name in ("torch", "torchvision", "numpy", "nbval")
    }


def test_package_data_names_existing_kinds_of_files(repository):
    data = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert data["package-data"]["lt_lib"] == ["py.typed", "claims/*.csv", "claims/published/*.csv"]
    assert (Path(repository) / "lt_lib" / "py.typed").is_file()
