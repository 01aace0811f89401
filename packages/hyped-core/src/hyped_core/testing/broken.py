"""Plugins that do what no plugin should, to test that none of them harms the others.

    >>> from pathlib import Path
    >>> from hyped_core.testing.broken import BROKEN
    >>> BROKEN["hangs"].install(Path("somewhere"))  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hyped_core.testing.plugins import make_distribution

_HEAD = (
    "from hyped_core import CommandSpec, HealthCheckSpec, MetricSpec, ModelSpec, Needs, ReaderSpec, ReportSectionSpec, "
    "TaskSpec, hookimpl\n"
)
_MODELS = f"{_HEAD}@hookimpl\ndef hyped_models():\n"
_WORKS = f"{_MODELS}    yield ModelSpec('of-the-broken', 'track', 'broken_model:Model')\n"


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A distribution ``broken-<kind>`` that is wrong in one way.

    Attributes
    ----------
    kind : what it does, in a word or two.
    code : its plugin module.
    reason : part of what ``hyped plugins list`` says of it; of one in `AT_WORK`, the command that uses it.
    files : its further modules.
    metadata, entry_points : bytes of the files of its ``dist-info``, where they are not as pip writes them.
    names : its entry points, where they are not its own name.
    requires, requires_python : what its metadata require.
    """

    kind: str
    code: str
    reason: str
    files: Mapping[str, str] = field(default_factory=dict)
    metadata: bytes | None = None
    entry_points: bytes | None = None
    names: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    requires_python: str = ""

    @property
    def distribution(self) -> str:
        """Its name as a distribution."""
        return f"broken-{self.kind}"

    @property
    def module(self) -> str:
        """The module its entry point names."""
        return f"broken_{self.kind.replace('-', '_')}"

    def install(self, folder: Path) -> None:
        """Write it into ``folder`` as pip would leave it in ``site-packages``."""
        info = make_distribution(
            folder,
            self.distribution,
            {self.module: self.code, **self.files},
            entry_points={name: self.module for name in self.names or (self.distribution,)},
            requires=self.requires,
            requires_python=self.requires_python,
        )
        for name, content in (("METADATA", self.metadata), ("entry_points.txt", self.entry_points)):
            if content is not None:
                (info / name).write_bytes(content)


def _in_hook(line: str) -> str:
    return f"import os, sys, time\n{_MODELS}    {line}\n    yield ModelSpec('after', 'track', 'a:B')\n"


def _yields(record: str, hook: str = "hyped_models") -> str:
    return f"{_HEAD}@hookimpl\ndef {hook}():\n    yield {record}\n"


def _at_work(kind: str, does: str, reason: str) -> BrokenPlugin:
    """A report's section (``section-...``) or health check (``health-...``) of that name, which ``does`` this."""
    target = f"broken_{kind.replace('-', '_')}_work:work"
    if kind.startswith("section-"):
        code = _yields(f"ReportSectionSpec('{kind}', 'Broken', '{target}', order=5)", "hyped_report_sections")
    else:
        code = _yields(f"HealthCheckSpec('{kind}', '{target}')", "hyped_health_checks")
    work = f"import ctypes, os, sys, time\ndef work(*context):\n    {does}\n"
    return BrokenPlugin(kind, code, reason, {target.partition(":")[0]: work})


_CIRCLE = {
    "broken_circle_a": "from broken_circle_b import B\nA = 1\n",
    "broken_circle_b": "from broken_circle_a import A\nB = 2\n",
}
_NEST = "class Nest:\n    def __getattr__(self, name):\n        raise RuntimeError('no ' + name)\n"
_MUTE = "class Mute(BaseException):\n    def __str__(self):\n        raise Mute\n"

_ALL = (
    # fails to import
    BrokenPlugin("missing-module", "import a_library_that_is_not_there\n", "ModuleNotFoundError"),
    BrokenPlugin("syntax", "def f(:\n", "SyntaxError"),
    BrokenPlugin("circular", "import broken_circle_a\n", "circular import", _CIRCLE),
    BrokenPlugin("no-module", "", "ModuleNotFoundError", entry_points=b"[hyped]\nbroken-no-module = broken_nowhere\n"),
    BrokenPlugin("sys-exit", "import sys\nsys.exit('bye')\n", "SystemExit"),
    BrokenPlugin("interrupt", "raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    BrokenPlugin("base-exception", f"{_MUTE}{_MODELS}    raise Mute\n", "Mute"),
    # ends or blocks the interpreter
    BrokenPlugin("os-exit", "import os\nos._exit(0)\n", "exit code 0"),
    BrokenPlugin("abort", "import os\nos.abort()\n", "SIGABRT"),
    BrokenPlugin("segfault", "import ctypes\nctypes.string_at(0)\n", "SIGSEGV"),
    BrokenPlugin("killed-in-hook", _in_hook("os.kill(os.getpid(), 9)"), "SIGKILL"),
    BrokenPlugin("hangs", "import time\nwhile True:\n    time.sleep(1)\n", "hangs"),
    BrokenPlugin("hangs-in-hook", _in_hook("time.sleep(3600)"), "hangs"),
    BrokenPlugin("reads-stdin", "import sys\nsys.stdin.readline()\n" + _WORKS, "stdin"),
    BrokenPlugin("bad-end", "import atexit, os\natexit.register(os._exit, 9)\n" + _WORKS, "exit code 9"),
    BrokenPlugin(
        "thread",
        "import threading, time\n"
        "def work():\n    while True:\n        time.sleep(0.1)\n"
        "threading.Thread(target=work, name='endless').start()\n" + _WORKS,
        "thread that does not end (endless)",
    ),
    BrokenPlugin("forks", "import os\nos.fork()\n" + _WORKS, "forks"),
    BrokenPlugin(
        "leaves-process",
        "import subprocess\nsubprocess.Popen(['sleep', '3600'], start_new_session=True)\n" + _WORKS,
        "leaves a process",
    ),
    BrokenPlugin(
        "starts-itself",
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'hyped_core.cli.main', 'models', 'list'])\n"
        "raise ValueError('and fails')\n",
        "and fails",
    ),
    # takes memory
    BrokenPlugin("leaks", "kept = []\nwhile True:\n    kept.append(bytearray(2**24))\n", "GB of memory"),
    BrokenPlugin(
        "endless",
        f"import itertools\n{_MODELS}    for n in itertools.count():\n"
        "        yield ModelSpec(f'm{n}', 'track', 'a:B')\n",
        "more than 10,000 records",
    ),
    # writes where data belong
    BrokenPlugin("prints", "print('hello from import')\n" + _WORKS, "writes to stdout"),
    BrokenPlugin("prints-below", "import os\nos.write(1, b'past sys.stdout')\n" + _WORKS, "writes to stdout"),
    BrokenPlugin("prints-in-c", "import ctypes\nctypes.CDLL(None).puts(b'from C')\n" + _WORKS, "writes to stdout"),
    BrokenPlugin("closes-stdout", "import sys\nsys.stdout.close()\n" + _WORKS, "sys.stdout"),
    BrokenPlugin("closes-descriptor", "import os\nos.close(1)\n" + _WORKS, "stdout"),
    # meddles with the interpreter
    BrokenPlugin("patches-builtins", "import builtins\nbuiltins.print = None\n" + _WORKS, "builtins.print"),
    BrokenPlugin("patches-json", "import json\njson.dumps = None\n" + _WORKS, "json.dumps"),
    BrokenPlugin(
        "patches-hyped",
        "from hyped_core.plugins.host import PluginHost\nPluginHost.collect = None\n" + _WORKS,
        "PluginHost.collect",
    ),
    BrokenPlugin("changes-folder", "import os\nos.chdir('/')\n" + _WORKS, "working folder"),
    BrokenPlugin("changes-environment", "import os\nos.environ.pop('PATH')\n" + _WORKS, "PATH"),
    BrokenPlugin("empties-path", "import sys\nsys.path.clear()\n" + _WORKS, "sys.path"),
    BrokenPlugin(
        "takes-signals", "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + _WORKS, "SIGTERM"
    ),
    BrokenPlugin(
        "raises-warnings", "import warnings\nwarnings.simplefilter('error')\n" + _WORKS, "errors of all warnings"
    ),
    BrokenPlugin("sets-alarm", "import signal\nsignal.alarm(3600)\n" + _WORKS, "sets a timer"),
    BrokenPlugin(
        "lowers-limits",
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))\n" + _WORKS,
        "lowers RLIMIT_NOFILE",
    ),
    BrokenPlugin("hides-package", "import sys\nsys.modules['hyped_bench'] = None\n" + _WORKS, "hyped_bench"),
    BrokenPlugin("silences-logging", "import logging\nlogging.disable(50)\n" + _WORKS, "logging.disable"),
    BrokenPlugin("changes-umask", "import os\nos.umask(0o777)\n" + _WORKS, "umask"),
    # registers nonsense
    BrokenPlugin("wrong-type", _yields("{'name': 'x'}"), "yielded dict"),
    BrokenPlugin("wrong-field", _yields("ModelSpec('m', 'track', 'a:B', summary=object())"), "summary is object"),
    BrokenPlugin("wrong-needs", _yields("ModelSpec('m', 'track', 'a:B', needs=Needs('torch'))"), "modules is str"),
    BrokenPlugin("bad-target", _yields("ModelSpec('m', 'track', 'not a target')"), "import string"),
    BrokenPlugin("escapes", _yields(r"ModelSpec('m', 'track', 'a:B', summary='\x1b[2J')"), "control characters"),
    BrokenPlugin("misspelt", _HEAD + "@hookimpl\ndef hyped_model():\n    return []\n", "did you mean 'hyped_models'?"),
    BrokenPlugin("evil-attributes", f"{_NEST}import sys\nsys.modules[__name__] = Nest()\n", "RuntimeError"),
    # takes names of others
    BrokenPlugin("takes-plugin-name", _WORKS, "call their plugin 'hyped-bench'", names=("hyped-bench",)),
    BrokenPlugin(
        "takes-model-name", _yields("ModelSpec('top_tag', 'demultiplex', 'a:B')"), "belongs to hyped-bench"
    ),
    BrokenPlugin(
        "takes-commands",
        f"{_HEAD}@hookimpl\ndef hyped_commands():\n"
        "    for path in (('bench', 'run'), ('plugins',), ('models', 'list', 'x')):\n"
        "        yield CommandSpec(path, 'broken_model:run', 'not for you')\n",
        "'bench run' belongs to hyped-bench",
    ),
    BrokenPlugin(
        "takes-task",
        _yields("TaskSpec('demultiplex', 'broken_model:Task')", "hyped_tasks")
        + "@hookimpl\ndef hyped_metrics():\n    yield MetricSpec('accuracy', 'demultiplex', 'broken_model:metric')\n",
        "the task 'demultiplex' belongs to hyped-bench",
    ),
    BrokenPlugin(
        "takes-suffix",
        _yields("ReaderSpec('aaa', 'movie', ('.tif', '.xyz'), 'broken_reader:read')", "hyped_readers"),
        "'movie/aaa' is not asked for .tif: hyped-imaging reads these",
    ),
    # is for another HYPED or Python
    BrokenPlugin("other-api", _yields("ModelSpec('m', 'track', 'a:B', api_version=99)"), "api_version 99"),
    BrokenPlugin("other-core", _WORKS, "requires hyped-core >=99", requires=("numpy", "hyped-core>=99")),
    BrokenPlugin("other-python", _WORKS, "requires Python >=4", requires_python=">=4"),
    # has damaged metadata
    BrokenPlugin("garbled-entry-points", _WORKS, "cannot be read", entry_points=b"[hyped]\nno equals sign\n"),
    BrokenPlugin("binary-entry-points", _WORKS, "cannot be read", entry_points=b"[hyped]\nx = \xff\xfe:\x00\n"),
    BrokenPlugin(
        "binary-metadata", "1 / 0\n", "ZeroDivisionError", metadata=b"\xff\xfe\x00 not text\nName: \xff\n"
    ),
    BrokenPlugin("no-metadata", "1 / 0\n", "ZeroDivisionError", metadata=b""),
)

_WAYS = {
    "exits": ("sys.exit(3)", "SystemExit: 3"),
    "vanishes": ("os._exit(0)", "exit code 0"),
    "segfault": ("ctypes.string_at(0)", "SIGSEGV"),
    "hangs": ("time.sleep(3600)", "took longer than"),
}

BROKEN: dict[str, BrokenPlugin] = {plugin.kind: plugin for plugin in _ALL}
"""Kind -> plugin."""

AT_WORK: dict[str, BrokenPlugin] = {
    f"{part}-{way}": _at_work(f"{part}-{way}", *told) for part in ("section", "health") for way, told in _WAYS.items()
}
"""Kind -> plugin that can be loaded and listed, and does harm when what it offers is used."""
