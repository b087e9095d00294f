"""Metrics of a live engine that serves them (`--metrics-address 127.0.0.1:0`), read by Prometheus' own parser."""

import re
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.support.engine import Engine


def address(engine: Engine) -> str:
    """Where the daemon said that it serves them."""
    found = re.findall(r"http://(127\.0\.0\.1:\d+)/metrics", (engine.root / "fluytd.log").read_text())
    return str(found[-1])


def collected(engine: Engine) -> dict[tuple[str, tuple[str, ...]], float]:
    """Value by name and label values, in the order of the labels' names."""
    with urllib.request.urlopen(f"http://{address(engine)}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
