"""One broken plugin of any kind is recorded with its reason and its mend, and harms no other."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys

import pytest

from hyped_core.errors import PluginError
from hyped_core.plugins.hookspecs import HOOKS
from hyped_core.plugins.streams import listening, printed_note, stdout_to_stderr
from hyped_core.testing import isolated_host, make_distribution

GOOD = """
    from hyped_core import ModelSpec, hookimpl

    @hookimpl
    def hyped_models():
        yield ModelSpec("{name}", "expression", "{name}_model:Model")
"""
HEAD = "from hyped_core import CommandSpec, DatasetSpec, ModelSpec, hookimpl\n"

BROKEN = {
    "import-error": ("import a_library_that_is_not_there\n", "ModuleNotFoundError"),
    "syntax-error": ("def f(:\n", "SyntaxError"),
    "exits": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "misspelt": (HEAD + "@hookimpl\ndef hyped_model():\n    return []\n", "did you mean 'hyped_models'?"),
    "unmarked-misspelt": ("def hyped_comands():\n    return []\n", "did you mean 'hyped_commands'?"),
    "unknown-hook": (
        HEAD + "@hookimpl\ndef make_coffee():\n    return []\n",
        "there is no hook 'make_coffee'",
    ),
    "extra-argument": (HEAD + "@hookimpl\ndef hyped_models(registry):\n    return []\n", "registry"),
    "raises": (HEAD + "@hookimpl\ndef hyped_models():\n    raise KeyError('weights')\n", "KeyError"),
    "exits-in-hook": (HEAD + "@hookimpl\ndef hyped_models():\n    raise SystemExit\n", "SystemExit"),
    "midway": (
        HEAD
        + "@hookimpl\ndef hyped_models():\n"
        + "    yield ModelSpec('first', 'expression', 'a:B')\n    raise OSError('gone')\n",
        "OSError: gone",
    ),
    "wrong-type": (HEAD + "@hookimpl\ndef hyped_models():\n    yield {'name': 'x'}\n", "yielded dict"),
    "not-iterable": (HEAD + "@hookimpl\ndef hyped_models():\n    return 7\n", "TypeError"),
    "other-api": (
        HEAD + "@hookimpl\ndef hyped_models():\n    yield ModelSpec('m', 'track', 'a:B', api_version=99)\n",
        "api_version 99",
    ),
    "bad-target": (
        HEAD + "@hookimpl\ndef hyped_models():\n    yield ModelSpec('m', 'track', 'not a target')\n",
        "must be an import string",
    ),
    "endless": (
        HEAD + "import itertools\n@hookimpl\ndef hyped_models():\n"
        "    for n in itertools.count():\n        yield ModelSpec(f'm{n}', 'track', 'a:B')\n",
        "more than 10,000 records",
    ),
    "base-exception": (
        HEAD + "class Stop(BaseException): ...\n@hookimpl\ndef hyped_models():\n    raise Stop\n",
        "raised Stop",
    ),
    "silent-error": (
        "class Mute(Exception):\n    def __str__(self):\n        raise KeyError\nraise Mute\n",
        "Mute: (its text cannot be had)",
    ),
    "refusing-attributes": (
        "import sys\nclass Nest:\n    def __getattr__(self, name):\n        raise OSError('no ' + name)\n"
        "sys.modules[__name__] = Nest()\n",
        "OSError: no ",
    ),
    "subclass": (
        HEAD + "class Mine(ModelSpec): ...\n@hookimpl\ndef hyped_models():\n    yield Mine('m', 'track', 'a:B')\n",
        "yielded Mine, expected ModelSpec",
    ),
    "wrong-field": (
        HEAD + "@hookimpl\ndef hyped_models():\n    yield ModelSpec('m', 'track', 'a:B', sources='a.b')\n",
        "'m' whose sources is str, expected a tuple of text",
    ),
    "long-text": (
        HEAD + "@hookimpl\ndef hyped_models():\n    yield ModelSpec('m', 'track', 'a:B', summary='x' * 20000)\n",
        "summary has 20,000 characters",
    ),
    "bad-name": (
        HEAD + "@hookimpl\ndef hyped_models():\n    yield ModelSpec('My Model', 'track', 'a:B')\n",
        "name",
    ),
}


def module_name(kind: str) -> str:
    return f"broken_{kind.replace('-', '_')}_plugin"


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_plugin_is_recorded_and_the_others_work(tmp_path, kind):
    text, reason = BROKEN[kind]
    make_distribution(tmp_path, f"lab-{kind}", {module_name(kind): text})
    for name in ("aardvark", "zebra"):  # one loaded before it, one after
        make_distribution(tmp_path, name, {f"{name}_plugin": GOOD.format(name=name)})
    with isolated_host(tmp_path) as host:
        names = [item.spec.name for item in host.collect("hyped_models")]
        record = host.record(f"lab-{kind}")
    assert names == ["aardvark", "zebra"]
    assert record.state == "broken"
    assert reason in record.reason
    assert f"pip uninstall lab-{kind}" in record.mend
    assert f"HYPED_BLOCK_PLUGINS=lab-{kind}" in record.mend
    assert [plugin.name for plugin in host.broken] == [f"lab-{kind}"]


@pytest.mark.parametrize("kind", BROKEN)
def test_strict_host_raises_instead(tmp_path, kind):
    make_distribution(tmp_path, f"lab-{kind}", {module_name(kind): BROKEN[kind][0]})
    with pytest.raises(PluginError, match=f"lab-{kind}"), isolated_host(tmp_path, strict=True) as host:
        host.check()


def test_all_broken_at_once(tmp_path):
    for kind, (text, _) in BROKEN.items():
        make_distribution(tmp_path, f"lab-{kind}", {module_name(kind): text})
    make_distribution(tmp_path, "zebra", {"zebra_plugin": GOOD.format(name="zebra")})
    with isolated_host(tmp_path) as host:
        states = {record.name: record.state for record in host.check()}
        assert [item.spec.name for item in host.collect("hyped_models")] == ["zebra"]
    assert states.pop("zebra") == "active"
    assert set(states.values()) == {"broken"}
    assert len(states) == len(BROKEN) >= 12


def test_a_failing_hook_leaves_the_others_whichever_is_asked_first(tmp_path):
    text = HEAD + (
        "@hookimpl\ndef hyped_models():\n    raise ValueError('no models today')\n"
        "@hookimpl\ndef hyped_commands():\n    yield CommandSpec(('lab',), 'a:b', 'x')\n    yield 5\n"
        "@hookimpl\ndef hyped_datasets():\n    yield DatasetSpec('d', 'lab:d.yaml')\n"
    )
    make_distribution(tmp_path, "half", {"half_plugin": text})
    hooks = ("hyped_models", "hyped_commands", "hyped_datasets")
    seen = set()
    for order in itertools.permutations(hooks):
        with isolated_host(tmp_path) as host:
            for hook in order:
                host.collect(hook)
            counts = tuple(len(host.collect(hook)) for hook in hooks)
            seen.add((counts, host.record("half").state, host.record("half").reason))
    assert len(seen) == 1
    counts, state, reason = seen.pop()
    assert counts == (0, 1, 1)
    assert state == "broken"
    assert reason.index("no models today") < reason.index("yielded int")


def test_two_plugins_of_one_name(tmp_path):
    for name in ("first", "second"):
        make_distribution(
            tmp_path,
            f"lab-{name}",
            {f"{name}_plugin": GOOD.format(name=name)},
            entry_points={"lab": f"{name}_plugin"},
        )
    with isolated_host(tmp_path) as host:
        names = [item.spec.name for item in host.collect("hyped_models")]
    assert names == ["first"]
    (broken,) = host.broken
    assert broken.distribution == "lab-second"
    assert "lab-first" in broken.reason and "lab-second" in broken.reason


def test_a_plugin_named_after_its_distribution_keeps_its_name(tmp_path):
    make_distribution(
        tmp_path,
        "aaa",
        {"intruder_plugin": GOOD.format(name="intruder")},
        entry_points={"lab": "intruder_plugin"},
    )
    make_distribution(tmp_path, "lab", {"lab_plugin": GOOD.format(name="rightful")})
    with isolated_host(tmp_path) as host:
        assert [item.spec.name for item in host.collect("hyped_models")] == ["rightful"]


@pytest.mark.parametrize("blocked", ["lab-one", "LAB_One", "one"])
def test_block_by_plugin_or_distribution(tmp_path, monkeypatch, blocked):
    text = "raise RuntimeError('must not be imported')\n"
    make_distribution(tmp_path, "lab-one", {"one_plugin": text}, entry_points={"one": "one_plugin"})
    with isolated_host(tmp_path, block=(blocked,)) as host:
        assert host.record("one").state == "blocked"
        assert host.broken == []


def test_block_and_strict_come_from_the_environment(tmp_path, monkeypatch):
    make_distribution(tmp_path, "lab-one", {"one_plugin": "raise RuntimeError('no')\n"})
    code = (
        "from hyped_core.plugins.host import default_host\n"
        "print({p.name: p.state for p in default_host().plugins}['lab-one'])"
    )

    def run(**variables: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), **variables}
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)

    assert run().stdout.strip() == "broken"
    assert run(HYPED_BLOCK_PLUGINS="other, lab-one").stdout.strip() == "blocked"
    strict = run(HYPED_STRICT_PLUGINS="1")
    assert strict.returncode != 0
    assert "lab-one" in strict.stderr


def test_what_a_plugin_prints_is_not_data(tmp_path, capsys):
    text = (
        "print('hello from import')\n"
        + HEAD
        + "@hookimpl\ndef hyped_models():\n    print('and hook')\n    return []\n"
    )
    make_distribution(tmp_path, "chatty", {"chatty_plugin": text})
    with isolated_host(tmp_path) as host:
        host.collect("hyped_models")
    out, err = capsys.readouterr()
    assert out == ""
    assert "hello from import" in err and "and hook" in err
    assert host.record("chatty").state == "active"


def test_slow_import_is_noted(tmp_path):
    make_distribution(tmp_path, "sluggish", {"sluggish_plugin": "import time\ntime.sleep(0.35)\n"})
    make_distribution(tmp_path, "quick", {"quick_plugin": GOOD.format(name="quick")})
    with isolated_host(tmp_path) as host:
        assert "slow" in host.record("sluggish").note
        assert host.record("sluggish").state == "active"
        assert host.record("quick").note == ""


def test_damaged_metadata_harms_no_other(tmp_path):
    """A line without '=' makes importlib.metadata fail for every distribution at once."""
    make_distribution(tmp_path, "zebra", {"zebra_plugin": GOOD.format(name="zebra")})
    info = make_distribution(tmp_path, "garbled", {"garbled_plugin": ""})
    (info / "entry_points.txt").write_text("[hyped]\nthis line has no equals sign\n")
    info = make_distribution(tmp_path, "nameless", {"nameless_plugin": GOOD.format(name="nameless")})
    (info / "METADATA").unlink()
    info = make_distribution(tmp_path, "odd", {"odd_plugin": ""}, entry_points={"odd": "not a: valid! value"})
    with isolated_host(tmp_path) as host:
        assert [item.spec.name for item in host.collect("hyped_models")] == ["nameless", "zebra"]
        broken = {record.name: record.reason for record in host.broken}
    assert set(broken) == {"garbled", "odd"}
    assert "entry points cannot be read" in broken["garbled"]


def test_damaged_metadata_of_the_whole_environment(tmp_path):
    info = make_distribution(tmp_path, "garbled", {"garbled_plugin": ""})
    (info / "entry_points.txt").write_text("[hyped]\nno equals sign\n[other]\n")
    code = (
        "from hyped_core.plugins.host import default_host\n"
        "print(sorted(p.name for p in default_host().plugins if p.state != 'broken'))\n"
        "print([p.name for p in default_host().broken])"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    working, broken = done.stdout.splitlines()
    assert "'hyped-core'" in working
    assert "garbled" in broken


def test_a_plugin_without_hooks_is_said_to_be_one(tmp_path):
    make_distribution(
        tmp_path,
        "hollow",
        {"hollow_plugin": "VALUE = None\n"},
        entry_points={"hollow": "hollow_plugin", "none": "hollow_plugin:VALUE"},
    )
    with isolated_host(tmp_path) as host:
        host.check()
        assert "no hook" in host.record("hollow").note
        assert host.record("none").state == "broken" or "no hook" in host.record("none").note


def test_keyboard_interrupt_is_not_swallowed(tmp_path):
    make_distribution(tmp_path, "interrupting", {"interrupting_plugin": "raise KeyboardInterrupt\n"})
    with pytest.raises(KeyboardInterrupt), isolated_host(tmp_path):
        pass


def test_tracebacks_are_kept_for_verbose_listing(tmp_path):
    make_distribution(tmp_path, "lab", {"lab_plugin": "1 / 0\n"})
    with isolated_host(tmp_path) as host:
        assert "lab_plugin.py" in host.record("lab").traceback
        assert "ZeroDivisionError" in host.record("lab").traceback


def test_unknown_hook_is_an_error_of_the_caller(tmp_path):
    with isolated_host(tmp_path) as host, pytest.raises(PluginError, match="there is no hook"):
        host.collect("hyped_modles")


def test_registered_object_counts_like_an_entry_point(tmp_path):
    from types import SimpleNamespace

    from hyped_core import ModelSpec, hookimpl

    @hookimpl
    def hyped_models():
        return [ModelSpec("mine", "track", "a:B")]

    with isolated_host(tmp_path) as host:
        host.register(SimpleNamespace(hyped_models=hyped_models), "mine", "my-dist", "2.0")
        (item,) = host.collect("hyped_models")
    assert (item.plugin.distribution, item.plugin.version, item.spec.name) == ("my-dist", "2.0", "mine")


def test_every_hook_documents_a_working_example():
    """The example in each hook's docstring is code that yields the hook's record."""
    import textwrap

    from hyped_core import spec
    from hyped_core.plugins.hookspecs import HypedHooks, hookimpl

    for hook, record in HOOKS.items():
        example = textwrap.dedent(getattr(HypedHooks, hook).__doc__.split("::\n", 1)[1])
        scope = {"hookimpl": hookimpl, **vars(spec)}
        exec(compile(example, hook, "exec"), scope)
        (made,) = scope[hook]()
        assert isinstance(made, record)


OWN = """
    from hyped_core import CommandSpec, MetricSpec, ModelSpec, hookimpl

    @hookimpl
    def hyped_models():
        yield ModelSpec("ridge", "expression", "{name}:Model")
        yield ModelSpec("of-{name}", "expression", "{name}:Model")

    @hookimpl
    def hyped_commands():
        yield CommandSpec({path!r}, "{name}:run", "run")

    @hookimpl
    def hyped_metrics():
        yield MetricSpec("rmse", "expression", "{name}:rmse")
"""


def test_names_of_hypeds_own_packages_are_displaced_by_nobody(tmp_path):
    from hyped_core.plugins.registry import metrics, models

    text = OWN.format(name="own", path=("bench", "run"))
    make_distribution(tmp_path, "hyped-bench", {"own_plugin": text}, entry_points={"hyped-bench": "own_plugin"})
    for number, path in enumerate((("bench", "run"), ("bench",), ("bench", "run", "x"), ("bench", "mine"))):
        make_distribution(tmp_path, f"lab-{number}", {f"lab{number}": OWN.format(name=f"lab{number}", path=path)})
    with isolated_host(tmp_path) as host:
        commands = {item.spec.path: item.plugin.distribution for item in host.collect("hyped_commands")}
        assert commands == {("bench", "run"): "hyped-bench", ("bench", "mine"): "lab-3"}
        assert metrics(host).provided("expression/rmse").plugin.distribution == "hyped-bench"
        assert len(metrics(host).items()) == 1
        registry = models(host)
        assert registry.provided("expression/ridge").plugin.distribution == "hyped-bench"
        assert registry.provided("lab-1:expression/ridge").plugin.distribution == "lab-1"
        handles = {registry.handle(item, item.spec.name) for item in registry.items()}
        assert {"ridge", "lab-0:ridge", "lab-1:ridge", "of-own", "of-lab0"} <= handles
        assert host.record("hyped-bench").state == "active"
        for number in range(4):
            record = host.record(f"lab-{number}")
            assert record.state == "broken" and f"ask for this one as lab-{number}:ridge" in record.reason


def test_strangers_of_one_model_name_are_told_so_and_work(tmp_path):
    for name in ("first", "second"):
        text = GOOD.format(name="same")
        make_distribution(tmp_path, f"lab-{name}", {f"{name}_plugin": text})
    with isolated_host(tmp_path) as host:
        assert len(host.collect("hyped_models")) == 2
        assert host.record("lab-first").state == "active"
        assert "'expression/same' is registered by lab-second too" in host.record("lab-first").note


def test_the_advice_blocks_the_stranger_alone(tmp_path):
    """Where a stranger took the name of another's plugin, blocking that name would take out the other."""
    make_distribution(tmp_path, "good", {"good_plugin": GOOD.format(name="good")})
    text = GOOD.format(name="thief")
    make_distribution(tmp_path, "thief", {"thief_plugin": text}, entry_points={"good": "thief_plugin"})
    with isolated_host(tmp_path) as host:
        (broken,) = host.broken
        assert "HYPED_BLOCK_PLUGINS=thief" in broken.mend
    with isolated_host(tmp_path, block=("thief",)) as host:
        assert [item.spec.name for item in host.collect("hyped_models")] == ["good"]


def test_what_a_stranger_writes_below_sys_stdout_is_not_data(tmp_path, capfd):
    text = "import os\nos.write(1, b'from below')\n" + HEAD + (
        "@hookimpl\ndef hyped_models():\n    os.write(1, b'and in the hook')\n    return []\n"
    )
    make_distribution(tmp_path, "deep", {"deep_plugin": text})
    with isolated_host(tmp_path) as host:
        host.collect("hyped_models")
    os.write(1, b"data")
    out, err = capfd.readouterr()
    assert out == "data" and "from below" in err and "and in the hook" in err


def test_damaged_metadata_is_hidden_from_other_libraries(tmp_path):
    info = make_distribution(tmp_path, "garbled", {"garbled_plugin": ""})
    (info / "entry_points.txt").write_bytes(b"[other]\nx = \xff\n")
    make_distribution(tmp_path, "zebra", {"zebra_plugin": GOOD.format(name="zebra")})
    code = (
        "from importlib.metadata import entry_points, version\n"
        "try:\n    entry_points(group='hyped')\nexcept UnicodeDecodeError:\n    print('fails')\n"
        "from hyped_core.plugins.host import PluginHost\n"
        "host = PluginHost()\n"
        "print(sorted(point.name for point in entry_points(group='hyped') if not point.name.startswith('hyped-')))\n"
        "print(version('garbled'), host.record('garbled'))\n"
        "import subprocess, sys\n"
        "child = 'import hyped_core; from importlib.metadata import entry_points; print(len(entry_points()) > 0)'\n"
        "print(subprocess.run([sys.executable, '-c', child], capture_output=True, text=True).stdout.strip())"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    fails, points, garbled, child = done.stdout.splitlines()
    assert fails == "fails" and "'zebra'" in points and garbled == "1.0 None", done.stderr
    assert child == "True", "and from those of the processes it starts"


def test_what_is_printed_goes_to_stderr_and_is_counted(capsys: pytest.CaptureFixture[str]):
    with listening() as heard, stdout_to_stderr():
        print("one", "two", sep="\n")  # noqa: T201
        sys.stdout.writelines(["three\n", "four "])
        assert heard.lines == 4 and sys.stdout.encoding == sys.stderr.encoding
        with contextlib.redirect_stderr(sys.stdout):  # as notebooks do
            print("and more", file=sys.stderr)  # noqa: T201
    print("data")  # noqa: T201
    with stdout_to_stderr():
        print("nobody listens")  # noqa: T201
    assert heard.lines == 4
    assert capsys.readouterr() == ("data\n", "one\ntwo\nthree\nfour and more\nnobody listens\n")
    assert printed_note("track/mine", heard.lines).startswith("note: track/mine wrote 4 lines to stdout")
    assert "1 line to" in printed_note("m", 1) and printed_note("m", 0) == ""
