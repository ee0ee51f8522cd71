"""The services as functions of a Python program."""

from __future__ import annotations

import threading

import pytest
from endpoint_config import ConfigError
from peers import free_port
from plant import attach_when_there, left_in_shm, modbus_file, opcua_file, running, wait_until_good

from cpc.main import main, modbus_tcp_service, opcua_service
from cpc.service_settings import Refused
from cpc.stopping import Stop


def in_thread(work, **arguments) -> tuple[threading.Thread, Stop, list[object]]:
    stop, results = Stop(), []
    thread = threading.Thread(target=lambda: results.append(work(stop=stop, **arguments)))
    thread.start()
    return thread, stop, results


@pytest.fixture
def plant(tmp_path):
    port = free_port()
    modbus = modbus_file(tmp_path / "m.xml", devices=["A"], port=port)
    opcua_port = free_port()
    opcua = opcua_file(tmp_path / "o.xml", url=f"opc.tcp://127.0.0.1:{opcua_port}")
    with (
        running("simulate", modbus, "--port", port, ready=f":{port} unit 1"),
        running("simulate", opcua, "--port", opcua_port, ready=f":{opcua_port}"),
    ):
        yield modbus, opcua


def test_main_runs_both_services_until_it_is_stopped(plant, shm_prefix):
    ready = threading.Event()
    thread, stop, results = in_thread(
        lambda **more: main([plant[0]], [plant[1]], namespace=shm_prefix, interval=0.1, on_ready=ready.set, **more))
    try:
        assert ready.wait(20)
        for kind in ("modbus", "opcua"):
            with attach_when_there(f"{shm_prefix}_{kind}_shm") as image:
                wait_until_good(image)
    finally:
        stop.request()
        thread.join(20)
    assert results == [0]
    assert left_in_shm(shm_prefix) == []


@pytest.mark.parametrize(("service", "kind"), [(modbus_tcp_service, "modbus"), (opcua_service, "opcua")])
def test_one_service_runs_in_a_thread_and_may_keep_its_segment(service, kind, plant, shm_prefix):
    file = plant[0] if kind == "modbus" else plant[1]
    thread, stop, _ = in_thread(lambda **more: service([file], namespace=shm_prefix, interval=0.1, keep=True, **more))
    try:
        with attach_when_there(f"{shm_prefix}_{kind}_shm") as image:
            wait_until_good(image)
    finally:
        stop.request()
        thread.join(20)
    assert f"{shm_prefix}_{kind}_shm" in left_in_shm(shm_prefix)


def test_main_ends_by_itself_after_its_duration(plant, shm_prefix):
    assert main([plant[0]], namespace=shm_prefix, duration=0.3) == 0
    assert left_in_shm(shm_prefix) == []


def test_a_fault_in_a_file_is_an_exception_of_a_service_and_one_of_main(tmp_path, shm_prefix, capsys):
    bad = tmp_path / "bad.xml"
    bad.write_text("<other/>")
    with pytest.raises(ConfigError):
        modbus_tcp_service([bad], namespace=shm_prefix, stop=Stop())
    assert main([bad], namespace=shm_prefix) == 1
    assert f"{bad}:" in capsys.readouterr().err


def test_a_name_that_is_held_is_refused(plant, shm_prefix):
    thread, stop, _ = in_thread(lambda **more: modbus_tcp_service([plant[0]], namespace=shm_prefix, **more))
    try:
        attach_when_there(f"{shm_prefix}_modbus_shm").close()
        with pytest.raises(Refused, match=f"{shm_prefix}_modbus_shm"):
            modbus_tcp_service([plant[0]], namespace=shm_prefix, stop=Stop())
    finally:
        stop.request()
        thread.join(20)
