"""The compose file, as far as it can be held to its word without a container engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

FILE = Path("docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = YAML(typ="safe").load(FILE)["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_open_to_the_network(name: str) -> None:
    assert [port for port in SERVICES[name].get("ports", []) if not port.startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    assert "build" in SERVICES[name] or re.search(r":v?\d+\.\d+\.\d+$", image), image


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_in_the_repository(name: str) -> None:
    mounted = [part.split(":")[0] for part in SERVICES[name].get("volumes", []) if part.startswith(".")]
    assert [path for path in mounted if not Path(path).exists()] == []


def test_every_long_running_service_says_when_it_is_well() -> None:
    silent = [name for name, one in SERVICES.items() if "healthcheck" not in one and one["restart"] != "no"]
    assert silent == ["worker"]  # its image says it


def test_services_find_each_other() -> None:
    """Each `http://name:port` in a mounted file or in the environment is a service that listens there."""
    texts = [FILE.read_text(), Path("alertmanager/alertmanager.yml").read_text()]
    if (prometheus := Path("prometheus/prometheus.yml")).exists():
        texts.append(prometheus.read_text())
    named = {found for text in texts for found in re.findall(r"\b([a-z]+):(\d{4,5})\b", text)}
    listening = {(name, port.rsplit(":", 1)[1]) for name, one in SERVICES.items() for port in one.get("ports", [])}
    listening |= {("kafka", "9092"), ("kafka", "9093")}
    assert {one for one in named if one[0] in SERVICES} <= listening
    assert ("receiver", "8099") in named
