"""Which devices of the host's CDI specs a RUN --device means."""

import json
from pathlib import Path
from typing import Any

import pytest

from fluytd.containers.cdi_registry import CdiRegistry, FoundDevice

CLASS, AUTO_ALLOW = "org.mobyproject.buildkit.device.class", "org.mobyproject.buildkit.device.autoallow"


def spec(path: Path, kind: str, *devices: dict[str, Any], **top: Any) -> None:
    path.write_text(json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": devices, **top}))


@pytest.fixture
def registry(tmp_path: Path) -> CdiRegistry:
    for name in ("etc", "run"):
        (tmp_path / name).mkdir()
    spec(
        tmp_path / "etc" / "toy.json",
        "vendor.com/toy",
        {"name": "b", "annotations": {CLASS: "fast"}},
        {"name": "a", "annotations": {AUTO_ALLOW: "false"}},
        {"name": "c", "annotations": {CLASS: "fast", AUTO_ALLOW: "nonsense"}},
        annotations={"others": 1},
    )
    spec(tmp_path / "etc" / "other.json", "vendor.com/toys", {"name": "z"})
    # The later directory goes before, and YAML has true where JSON has a text.
    (tmp_path / "run" / "toy.yaml").write_text(
        f"cdiVersion: '0.6.0'\nkind: vendor.com/toy\nannotations: {{{AUTO_ALLOW}: true}}\n"
        "devices:\n- name: b\n- name: d\n"
    )
    (tmp_path / "run" / "broken.json").write_text("{")
    return CdiRegistry((tmp_path / "etc", tmp_path / "run", tmp_path / "absent"))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("vendor.com/toy=a", {"a": False}),
        ("vendor.com/toy=b", {"b": True}),
        ("vendor.com/toy", {"a": False}),
        ("vendor.com/toy=*", {"a": False, "b": True, "c": False, "d": True}),
        ("vendor.com/toy=fast", {"c": False}),
        ("vendor.com/toy=none", {}),
        ("vendor.com/none", {}),
        ("vendor.com/to", {}),
        ("nonsense", {}),
        ("", {}),
    ],
)
def test_a_name_means_one_device_or_all_of_a_kind_or_of_a_class(
    registry: CdiRegistry, name: str, found: dict[str, bool]
) -> None:
    assert registry.matches(name) == [FoundDevice(f"vendor.com/toy={one}", is_auto) for one, is_auto in found.items()]
