"""What `endpoint_config` gives by name, it gives whatever was imported before."""

from __future__ import annotations

from pathlib import Path

import endpoint_config


def test_every_name_that_is_given_is_there() -> None:
    for name in endpoint_config.__all__:
        assert getattr(endpoint_config, name) is not None, name


def test_no_name_is_that_of_a_module_which_would_take_its_place_once_it_is_imported() -> None:
    """A module becomes an attribute of its package when anybody imports it, and hides a name that comes later."""
    modules = {path.stem for path in Path(endpoint_config.__file__).parent.glob("*.py")}
    assert modules.isdisjoint(endpoint_config.__all__)
