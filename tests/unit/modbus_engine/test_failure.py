"""What the system says when there is no way to a device, in words that help."""

from __future__ import annotations

import errno
import logging
import resource
import socket

import pytest
from modbus_tcp_client import manager
from modbus_tcp_client.failure import from_errno, from_system


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_a_machine_without_descriptors_is_not_blamed_on_the_cable(code):
    failure = from_system(OSError(code, "too many"))
    assert failure == from_errno(code, "too many")
    assert "LimitNOFILE" in failure.todo


def test_other_errors_keep_the_words_of_the_system():
    assert from_errno(errno.ECONNREFUSED).what == "connection refused"
    assert from_system(socket.gaierror(-2, "Name or service not known")).what == "name or service not known"
    assert from_errno(None).what == "connection failed"


def test_a_limit_that_can_not_be_raised_is_told_at_the_start(monkeypatch, caplog):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 128))
    changed = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: changed.append(limits))
    with caplog.at_level(logging.WARNING, "modbus"):
        manager._allow_descriptors(100)
        assert caplog.messages == []
        manager._allow_descriptors(300)
    assert changed == [(100, 128), (128, 128)]
    assert "needs up to 300" in caplog.messages[0]
