"""The page of qualities says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from acquisition import service_points, system_points
from opcua_client import certificate_points
from process_image import quality_name

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "points-and-qualities.md").read_text()


def test_every_code_on_the_page_has_the_name_beside_it():
    pairs = re.findall(r"0x([0-9A-F]{8}) (\w+)", PAGE)
    assert len(pairs) >= 20
    assert [(code, quality_name(int(code, 16))) for code, _ in pairs] == pairs


def test_every_system_point_is_on_the_page():
    for point in [*system_points("device", certificate_points("device")), *service_points()]:
        assert f"`{point.full_name}`" in PAGE
