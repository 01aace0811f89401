"""Looking things up by name: models, tasks, metrics, datasets, readers, whichever plugin they come from."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from hyped_core.errors import NameClashError, UnknownNameError
from hyped_core.plugins.discovery import normal_name
from hyped_core.plugins.host import PluginHost, Provided, default_host
from hyped_core.spec import DatasetSpec, MetricSpec, ModelSpec, ReaderSpec, TaskSpec

S = TypeVar("S")


class Registry(Generic[S]):
    """Names of one kind. A name that two distributions claim is an error only for who asks for it.

    ``get("distribution:name")`` names one of two claimants; a bare name needs to be unique. HYPED's own packages keep
    their names: a stranger's contribution of such a name is found as ``distribution:name`` only.
    """

    def __init__(self, kind: str, provided: list[Provided], key: Any, broken: Sequence[str] = ()) -> None:
        self.kind = kind
        self.broken = tuple(broken)
        """Names of plugins of which something could not be used: what is looked for may be theirs."""
        self._key = key
        self._by_key: dict[str, list[Provided]] = defaultdict(list)
        for item in provided:
            self._by_key[key(item.spec)].append(item)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._by_key)

    def items(self) -> list[Provided]:
        """All contributions, by name, clashing ones included."""
        return [item for name in self.names() for item in self._by_key[name]]

    def clashes(self) -> dict[str, list[str]]:
        """Name -> the distributions that claim it, for names claimed more than once."""
        return {
            name: [item.plugin.distribution for item in items]
            for name, items in sorted(self._by_key.items())
            if len(items) > 1
        }

    def handle(self, item: Provided, name: str) -> str:
        """What to call ``item`` so that only it is meant: ``name``, or ``distribution:name`` in a clash."""
        claimants = _rightful(self._by_key[self._key(item.spec)])
        return name if claimants == [item] else f"{item.plugin.distribution}:{name}"

    def provided(self, name: str) -> Provided:
        """The contribution called ``name`` and the plugin it came from.

        Raises
        ------
        UnknownNameError
            Nothing has this name; the closest names are given.
        NameClashError
            More than one distribution claims it; both are named.
        """
        distribution, _, bare = name.rpartition(":")
        items = self._by_key.get(bare, [])
        if distribution:
            items = [item for item in items if normal_name(item.plugin.distribution) == normal_name(distribution)]
        else:
            items = _rightful(items)
        if not items:
            close = difflib.get_close_matches(bare, self.names(), n=3)
            mend = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(self.names())}"
            if self.broken:
                mend += f"; or mend the broken plugin {', '.join(self.broken)} (hyped plugins list says what ails it)"
            raise UnknownNameError(f"there is no {self.kind} called {name!r}", mend=mend)
        if len(items) > 1:
            owners = [f"{item.plugin.distribution} {item.plugin.version}" for item in items]
            if len(set(owners)) == 1:
                raise NameClashError(
                    f"{owners[0]} registers the {self.kind} {bare!r} {len(items)} times",
                    mend=f"its author has to rename one, or HYPED_BLOCK_PLUGINS={items[0].plugin.name}",
                )
            raise NameClashError(
                f"the {self.kind} {bare!r} is registered by {' and by '.join(owners)}",
                mend=f"say which one: {items[0].plugin.distribution}:{bare}, "
                f"or uninstall or block one of them (HYPED_BLOCK_PLUGINS)",
            )
        return items[0]

    def get(self, name: str) -> S:
        """The record called ``name``."""
        return self.provided(name).spec


def _rightful(items: list[Provided]) -> list[Provided]:
    """Of several that claim a name those of HYPED's own packages, where there are any."""
    return [item for item in items if item.plugin.own] or items


def _registry(kind: str, hook: str, key: Any, host: PluginHost | None) -> Registry[Any]:
    host = host or default_host()
    return Registry(kind, host.collect(hook), key, [plugin.name for plugin in host.broken])


def models(host: PluginHost | None = None) -> Registry[ModelSpec]:
    """Models by ``"task/name"``."""
    return _registry("model", "hyped_models", lambda spec: spec.key, host)


def get_model(task: str, name: str, host: PluginHost | None = None) -> ModelSpec:
    """The model ``name`` (or ``"distribution:name"``) of ``task``."""
    return provided_model(task, name, host).spec


def provided_model(task: str, name: str, host: PluginHost | None = None) -> Provided:
    """The model and its owner, by task and name (or ``distribution:name``); raises what `get_model` raises."""
    distribution, _, bare = name.rpartition(":")
    return models(host).provided(f"{distribution}:{task}/{bare}" if distribution else f"{task}/{bare}")


def tasks(host: PluginHost | None = None) -> Registry[TaskSpec]:
    """Benchmark tasks by name."""
    return _registry("task", "hyped_tasks", lambda spec: spec.name, host)


def metrics(host: PluginHost | None = None) -> Registry[MetricSpec]:
    """Metrics by ``"task/name"``."""
    return _registry("metric", "hyped_metrics", lambda spec: f"{spec.task}/{spec.name}", host)


def datasets(host: PluginHost | None = None) -> Registry[DatasetSpec]:
    """Datasets by name."""
    return _registry("dataset", "hyped_datasets", lambda spec: spec.name, host)


def readers(host: PluginHost | None = None) -> Registry[ReaderSpec]:
    """Readers by ``"kind/name"``."""
    return _registry("reader", "hyped_readers", lambda spec: f"{spec.kind}/{spec.name}", host)
