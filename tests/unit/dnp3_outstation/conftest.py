"""Every frame that these tests make an outstation send is dissected at the end of each module."""

from __future__ import annotations

from collections.abc import Iterator

import dnp3_dissect
import pytest


@pytest.fixture(scope="module", autouse=True)
def dissected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with dnp3_dissect.recorded() as recorder:
        yield
    if recorder.chunks:
        dnp3_dissect.dissect(recorder, tmp_path_factory.mktemp("dissected"))
