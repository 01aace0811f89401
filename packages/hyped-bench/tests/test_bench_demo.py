"""The demo: whole, quick, the same every time, and without a network."""

from __future__ import annotations

import json
import socket
import time

from hyped_core.cli.main import run as hyped
from hyped_core.container import HypedData


def test_demo_needs_no_network_and_leaves_a_valid_container(tmp_path, monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise AssertionError("the demo opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    started = time.monotonic()
    assert hyped(["demo", str(tmp_path / "demo")]) == 0
    assert time.monotonic() - started < 60
    said = capsys.readouterr().out
    for word in ("denoise", "otsu", "nearest", "top_tag", "additive", "duplicate"):
        assert word in said
    container = HypedData.read(tmp_path / "demo" / "demo.hyped")
    container.validate()
    assert set(container.movies) == {"S0"} and container.table("rna").n_obs > 100
    page = (tmp_path / "demo" / "README.md").read_text()
    assert page.count("| control |") >= 12
    record = json.loads((tmp_path / "demo" / "records" / "track" / "nearest" / "record.json").read_text())
    assert list(record["data"])[0].startswith("truth/") and str(tmp_path) not in json.dumps(record)
    # what the demo is there to show
    scores = {
        name: json.loads((tmp_path / "demo" / "metrics" / "expression" / f"{name}.json").read_text())
        for name in ("no_change", "duplicate")
    }
    assert scores["no_change"]["pearson"] > 0.9 and scores["no_change"]["pearson_delta"] == 0
    assert scores["duplicate"]["pearson_delta"] > 0.8
    assert hyped(["demo", str(tmp_path / "demo")]) == 2
