"""``hyped doctor``: what is installed, what works, what is missing and the command that mends it."""

from __future__ import annotations

import json
from typing import Any

import click

from hyped_core.errors import HypedError, MissingDependencyError, PluginError, type_and_text
from hyped_core.plugins.host import PluginHost, Provided, default_host, stdout_to_stderr


def run_check(item: Provided) -> dict[str, Any]:
    """One health check as a row; a check that fails itself is ``broken`` and says so.

    A stranger's check runs in a process of its own, within the limits of a look at a plugin.
    """
    spec, plugin = item.spec, item.plugin
    result = checked(spec.target) if plugin.own else _checked_apart(spec.target, plugin.distribution)
    if result["state"] == "broken" and not result["mend"]:
        remove = "" if plugin.own else f", or {plugin.removal}"
        result["mend"] = f"report it to the authors of {plugin.distribution}{remove}"
    return {
        "name": spec.name,
        "package": plugin.distribution,
        "summary": spec.summary,
        "required": spec.required,
        **result,
    }


def checked(target: str) -> dict[str, str]:
    """The state, detail and mend that a check gives when it is called in this process."""
    from hyped_core.spec import HealthResult, import_target

    try:
        with stdout_to_stderr():
            result = import_target(target)()
        if not isinstance(result, HealthResult) or result.state not in ("ok", "missing", "broken"):
            raise TypeError("the check gave no hyped_core.HealthResult")
        return _row(result.state, result.detail, result.mend)
    except HypedError as error:
        return _row("broken", error.message, error.mend or "")
    except (Exception, SystemExit) as error:  # noqa: BLE001  a stranger's check may raise anything
        return _row("broken", f"the check itself failed: {type_and_text(error)}")


def _checked_apart(target: str, owner: str) -> dict[str, str]:
    from hyped_core.plugins.probe import MEMORY_VARIABLE, SECONDS_VARIABLE, Limits
    from hyped_core.plugins.record import plain
    from hyped_core.remote.apart import ask_apart

    limits = Limits.from_environment()
    more = f"where it needs more: {SECONDS_VARIABLE}=60, {MEMORY_VARIABLE}=8"
    try:
        told = ask_apart(
            f"{__name__}:checked", {"target": target}, f"a check of {owner}",
            seconds=limits.seconds, memory_gb=limits.memory_gb, more=more,
        )  # fmt: skip
    except PluginError as error:
        ways = f" ({error.mend})" if error.mend else ""
        return _row("broken", f"the check itself failed: {error.message}{ways}")
    return {name: " ".join(plain(text).split()) for name, text in told.items()}


def _row(state: str, detail: object, mend: object = "") -> dict[str, str]:
    return {"state": state, "detail": str(detail), "mend": str(mend)}


def examine(host: PluginHost) -> list[dict[str, Any]]:
    """A row for every check, then one for every broken or blocked plugin."""
    rows = [run_check(item) for item in host.collect("hyped_health_checks")]
    for plugin in host.check():
        if plugin.state != "active" or plugin.note:
            rows.append(
                {
                    "name": f"plugin {plugin.name}",
                    "package": plugin.distribution,
                    "summary": "a plugin as the host found it",
                    "required": plugin.distribution == "hyped-core",
                    "state": {"active": "ok", "blocked": "missing", "broken": "broken"}[plugin.state],
                    "detail": "; ".join(filter(None, (plugin.reason, plugin.note))),
                    "mend": plugin.mend,
                }
            )
    return rows


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON list on stdout.")
def doctor(as_json: bool) -> None:
    """Check the machine, the tools and the plugins; say what is missing and the command that mends it.

    Exit code 0, or 5 where something that HYPED cannot do without is broken.
    """
    from hyped_core.cli.tables import aligned

    rows = examine(default_host())
    if as_json:
        click.echo(json.dumps(rows, indent=2, sort_keys=True))
    else:
        click.echo(aligned(("check", "state", "found"), [(r["name"], r["state"], r["detail"]) for r in rows]))
        mends = [(row["name"], row["mend"]) for row in rows if row["state"] != "ok" and row["mend"]]
        if mends:
            click.echo("\nto mend:")
            for name, mend in mends:
                click.echo(f"  {name}: {mend}")
    bad = [row["name"] for row in rows if row["required"] and row["state"] == "broken"]
    if bad:
        raise MissingDependencyError(
            f"HYPED cannot work as it is: {', '.join(bad)}", where="hyped doctor", mend="see the list above"
        )
