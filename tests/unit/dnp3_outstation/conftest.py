"""Every frame that these tests make an outstation send is dissected at the end of each module."""

from __future__ import annotations

from collections.abc import Iterator

import dnp3_dissect
import pytest


@pytest.fixture(scope="module", autouse=True)
def dissected(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if getattr(request.module, "DISSECTS_ITSELF", False):
        yield
        return
    with dnp3_dissect.recorded() as recorder:
        yield
    if recorder.chunks:
        dnp3_dissect.dissect(recorder, tmp_path_factory.mktemp("dissected"))
