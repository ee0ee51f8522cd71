"""What the package gives away is there, and XML is paid for by those who need it."""

from __future__ import annotations

import subprocess
import sys

import endpoint_config
import pytest


@pytest.mark.parametrize("name", endpoint_config.__all__)
def test_every_name_of_the_package_is_there(name: str) -> None:
    assert getattr(endpoint_config, name) is not None
    assert name in dir(endpoint_config)


def test_another_name_is_an_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="load_everything"):
        endpoint_config.load_everything  # noqa: B018


def test_who_polls_without_a_file_imports_no_xml() -> None:
    program = "import sys, modbus_tcp_client; print(sorted(m for m in sys.modules if m.split('.')[0] in HEAVY))"
    heavy = {"lxml", "xmlschema", "asyncua", "pymodbus", "asyncio", "pandas", "paho"}
    done = subprocess.run([sys.executable, "-c", program.replace("HEAVY", repr(heavy))], capture_output=True, text=True,
                          check=True, timeout=60)
    assert done.stdout.strip() == "[]"
