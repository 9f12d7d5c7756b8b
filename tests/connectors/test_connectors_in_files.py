"""Mistakes with connectors in topology files: told with their place, before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rainband import TopologyError
from rainband.definition import load_topology

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """
name: mistakes
spouts:
  source: {SPOUT}
bolts:
  show: {class: "rainband.connectors:Print", inputs: [source]}
"""


@pytest.mark.parametrize(
    ("spout", "text"),
    [
        ('class: "rainband.connectors:Lins"', '4:19: spouts.source.class: .* has no "Lins"; did you mean "Lines"'),
        ('class: "rainband.connectors:Kafka"', "known here: CsvRows, CsvSink, JsonLines, JsonLinesSink, Lines, Print"),
        ('class: "rainband.connectors:JsonLines", with: {paht: x}', 'no parameter "paht"; did you mean "path"'),
        ('class: "rainband.connectors:Lines"', "spouts.source.*path"),
        ('class: "rainband.connectors:Sequence", with: {count: many}', "with.count: expected int .*, got the text"),
        ('class: "rainband.connectors:Print"', "spouts.source"),
    ],
)
def test_mistakes(tmp_path: Path, spout: str, text: str) -> None:
    file = tmp_path / "mistakes.yaml"
    file.write_text(TEXT.replace("SPOUT", spout))
    with pytest.raises(TopologyError, match=text):
        load_topology(file)
