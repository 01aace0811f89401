"""What an environment is made of: all code of a plugin's distribution, and the files that requirements name."""

from __future__ import annotations

import json
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from hyped_core.errors import MissingFileError, PluginError
from hyped_core.plugins.folder import FOLDERS_VARIABLE, folder_distribution
from hyped_core.remote import cache, environments
from hyped_core.remote.environments import environment_for, is_made
from hyped_core.remote.layers import code_of, layer_hash, write_layer
from hyped_core.remote.requirements import local_state, settled_lines
from hyped_core.spec import ModelSpec

SPEC = ModelSpec("two", "denoise", "twolab_model.core:Two")
FILES = {
    "twolab_model/__init__.py": "",
    "twolab_model/core.py": "import twolab_help, _twolab_one\nfrom twolab_space.inner import X\nclass Two: ...\n",
    "twolab_model/weights.bin": "w",
    "twolab_help/__init__.py": "HELP = 1\n",
    "twolab_help/deep/table.csv": "a,b\n",
    "twolab_space/inner.py": "X = 1\n",
    "_twolab_one.py": "ONE = 1\n",
}
PYPROJECT = """
[project]
name = "twolab"
version = "1.2"
[project.entry-points.hyped]
twolab = "twolab_model.plugin"
"""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def info(site: Path, record: list[str], direct_url: dict | None = None) -> None:
    place = site / "twolab-1.2.dist-info"
    texts = {
        "METADATA": "Metadata-Version: 2.1\nName: twolab\nVersion: 1.2\nRequires-Dist: attrs>=23\n",
        "entry_points.txt": "[hyped]\ntwolab = twolab_model.plugin\n",
    }
    if direct_url is not None:
        texts["direct_url.json"] = json.dumps(direct_url)
    write(place, texts)
    listed = [*record, *(f"{place.name}/{name}" for name in [*texts, "RECORD"]), "../../bin/twolab"]
    (place / "RECORD").write_text("".join(f"{name},,\n" for name in listed))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the path, with another distribution's code in it."""
    folder = tmp_path / "site"
    write(folder, {"other/__init__.py": "", "twolab_space/of_another.py": "", "single.py": ""})
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in [name for name in sys.modules if "twolab" in name]:
        del sys.modules[name]


def own(code) -> dict[str, Path]:
    return {name: path for name, path in code.files.items() if not name.startswith("hyped_core/")}


def test_an_installed_distribution_is_what_its_list_names(site):
    write(site, FILES)
    write(site, {"twolab_model/downloaded.bin": "later", "twolab_model/__pycache__/core.cpython-311.pyc": "x"})
    info(site, [*FILES, "twolab_model/__pycache__/core.cpython-311.pyc"])
    code = code_of(SPEC, "TwoLab")
    assert set(own(code)) == {*FILES, "twolab_model/downloaded.bin"}
    assert code.requirements == ("attrs>=23",) and [one.version for one in code.distributions][1:] == ["1.2"]


@pytest.mark.parametrize("layout", ["src", "."])
def test_an_editable_one_is_what_its_source_folder_has(site, tmp_path, monkeypatch, layout):
    project = tmp_path / "project with space"
    beside = {
        "tests/__init__.py": "",
        "tests/test_x.py": "",
        "setup.py": "",
        "notes/x.py": "",
        "twolab.egg-info/PKG-INFO": "",
    }
    write(project, {"pyproject.toml": PYPROJECT})
    write(project / layout, FILES if layout == "src" else {**FILES, **beside})
    if layout == "src":
        write(project, beside)
        write(project / "src", {"twolab.egg-info/PKG-INFO": "Name: twolab\nVersion: 0.9\n"})
    monkeypatch.syspath_prepend(project / layout)
    info(site, ["_twolab.pth"], {"url": project.as_uri(), "dir_info": {"editable": True}})
    found = own(code_of(SPEC, "twolab"))
    wanted = set(FILES) - (set() if layout == "src" else {"twolab_space/inner.py"})  # a folder like any other there
    assert set(found) == wanted
    before = layer_hash(code_of(SPEC, "twolab"))
    (project / layout / "twolab_help/__init__.py").write_text("HELP = 2\n")
    assert layer_hash(code_of(SPEC, "twolab")) != before


def test_a_source_folder_that_nobody_installed(tmp_path, monkeypatch):
    from hyped_core.plugins.folder import use_folder
    from hyped_core.plugins.host import default_host

    write(tmp_path / "project", {"pyproject.toml": PYPROJECT})
    write(tmp_path / "project/src", {**FILES, "twolab_model/plugin.py": ""})
    monkeypatch.setenv(FOLDERS_VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    use_folder(tmp_path / "project")
    try:
        code = code_of(SPEC, "twolab")
        assert set(own(code)) == {*FILES, "twolab_model/plugin.py"} and code.distributions[1].version == "1.2"
    finally:
        default_host.cache_clear()
        from hyped_core.plugins import finder

        finder._FINDER._known.pop("twolab", None)
    assert folder_distribution(tmp_path / "project").version == "1.2"


def test_without_a_list_it_is_what_the_model_names(site):
    write(site, FILES)
    info(site, [])
    (site / "twolab-1.2.dist-info/RECORD").unlink()
    spec = ModelSpec("two", "denoise", "twolab_model.core:Two", sources=("_twolab_one",))
    assert {name.partition("/")[0] for name in own(code_of(spec, "twolab"))} == {"twolab_model", "_twolab_one.py"}
    with pytest.raises(PluginError, match="no such module"):
        code_of(ModelSpec("two", "denoise", "twolab_gone:Two"), "twolab")


def test_it_imports_in_its_layer(site, tmp_path):
    import subprocess

    write(site, FILES)
    info(site, list(FILES))
    write_layer(tmp_path / "layer", code_of(SPEC, "twolab"), tmp_path / "nothing")
    code = (
        "import twolab_model.core as c, importlib.metadata as m; from pathlib import Path\n"
        "print(c.twolab_help.HELP, m.version('twolab'), Path(c.__file__).with_name('weights.bin').read_text())"
    )
    done = subprocess.run(
        [tmp_path / "layer/bin/python", "-c", code], capture_output=True, text=True, cwd=tmp_path, env={"PATH": ""}
    )
    assert done.stdout.split() == ["1", "1.2", "w"], done.stderr
    assert not list((tmp_path / "layer").rglob("of_another.py"))


def wheel(folder: Path, version: str) -> None:
    dist = f"twodep-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"twodep-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr("twodep.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{dist}/METADATA", f"Metadata-Version: 2.1\nName: twodep\nVersion: {version}\n")
        archive.writestr(
            f"{dist}/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{dist}/RECORD", "")


def test_files_among_the_requirements_decide_which_environment_it_is(tmp_path, monkeypatch):
    work = tmp_path / "work folder"
    wheel(tmp_path / "wheels", "1.0")
    wheel(tmp_path / "wheels", "2.0")
    write(work, {"reqs.txt": "-r more/deep.txt\n", "more/deep.txt": "twodep  # any\n-c \\\n  ../limits.txt\n"})
    (work / "limits.txt").write_text("twodep==1.0\n")
    monkeypatch.setenv("HYPED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setattr(environments, "core_requirements", list)
    monkeypatch.chdir(work)
    asked = ["--requirement=reqs.txt"]

    def version() -> str:
        made = environment_for(asked, say=lambda text: None).parents[3]
        return next(made.rglob("twodep.py")).read_text().split("'")[1]

    assert not is_made(asked) and version() == "1.0" and is_made(asked)
    (work / "limits.txt").write_text("# a remark\n\ntwodep==1.0   # another\n")
    assert is_made(asked)
    (work / "limits.txt").write_text("twodep==2.0\n")
    assert not is_made(asked) and version() == "2.0"
    assert len(cache.environments()) == 2
    (work / "limits.txt").unlink()
    with pytest.raises(MissingFileError, match="no such file of requirements") as caught:
        environment_for(asked, say=lambda text: None)
    assert caught.value.where == str(work / "limits.txt") and "'-c" in caught.value.mend
    with pytest.raises(MissingFileError) as caught:
        is_made(["-r nothing.txt"])
    assert caught.value.where == str(work / "nothing.txt")


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("-r a.txt", "-r"),
        ("-ra.txt", "-r"),
        ("  -c 'a.txt'  # why", "-c"),
        ("--constraint a.txt", "--constraint"),
        ("--requirement=${PLACE}/a.txt", "--requirement"),
    ],
)
def test_the_words_that_name_a_file(tmp_path, monkeypatch, line, option):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLACE", str(tmp_path))
    (tmp_path / "a.txt").write_text("numpy\n-r a.txt\n")
    assert settled_lines([line]) == [f"{option} {tmp_path / 'a.txt'}"]
    assert local_state([line]) == [f"{option}\0numpy\n-r a.txt"]  # it names itself: once


def test_lines_that_name_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["numpy==1", "--pre", "-r https://x.y/z.txt", "--requirements-of-mine x", "-e ./nowhere", "--constraints"]
    assert settled_lines(lines) == lines and local_state(lines) == []


def test_the_metadata_of_this_hyped_core_goes_along():
    code = code_of(None)
    assert [one.metadata["Name"] for one in code.distributions] == ["hyped-core"]
    assert code.distributions[0].version == metadata.version("hyped-core") and "hyped_core/spec.py" in code.files
