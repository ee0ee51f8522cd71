"""`cpc poke modbus`: one request of any function to a device, and what its answer may mean."""

from __future__ import annotations

import contextlib
import re
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from endpoint_config import ConfigError, Datatype, ModbusPoint, ReadFunction
from modbus_tcp_client import EncodeError, ModbusError, ModbusTCPClient, encode
from modbus_tcp_client.errors import ModbusConnectionError, ModbusExceptionError, ModbusTimeout
from modbus_tcp_client.functions import as_text, object_name

from cpc.commandline import poke_view
from cpc.commandline.errors import CommandError, Exit, absent
from cpc.commandline.output import complain, print_json

_ON = {"1": True, "on": True, "true": True, "0": False, "off": False, "false": False}
_CATEGORIES = {"basic": 1, "regular": 2, "extended": 3}
_HARMLESS = frozenset([0, 2, *range(11, 20)])
"""Subfunctions of function 8 that change nothing."""
Answer = dict[str, Any]


class Function(NamedTuple):
    """One function of the command."""

    arguments: str
    """For the usage message."""
    least: int
    most: int | None
    """Number of arguments, None = any."""
    ask: Callable[[ModbusTCPClient, Sequence[str], Namespace], Answer]
    writes: bool = False


def run(args: Namespace) -> int:
    """Check, ask, show."""
    name = args.function.lower()
    if name not in FUNCTIONS:
        raise CommandError(f"cpc poke modbus: function {args.function!r}; one of {', '.join(FUNCTIONS)}", Exit.USAGE)
    function = FUNCTIONS[name]
    if len(args.arguments) < function.least or len(args.arguments) > (function.most or 10**6):
        raise CommandError(f"usage: cpc poke modbus URL {name} {function.arguments}", Exit.USAGE)
    if not args.write and (function.writes or _changes(name, args.arguments)):
        raise CommandError(f"cpc poke modbus: {name} changes something in the device; add --write if that is meant",
                           Exit.USAGE)
    client = _client(args)
    if args.packets:
        client.listen(lambda packet: complain(packet.line()))
    try:
        began = time.monotonic()
        answer = function.ask(client, args.arguments, args)  # connects with the first request
        took = (time.monotonic() - began) * 1e3
    except (ModbusConnectionError, ModbusTimeout) as error:
        raise absent(str(error)) from error
    except ModbusError as error:
        raise CommandError(f"{error}{_hint(error)}") from error
    except (ValueError, EncodeError) as error:
        raise CommandError(f"cpc poke modbus: {error}", Exit.USAGE) from error
    finally:
        client.close()
    whole = {"device": client.serveralias, "unit": client.unit_id, "function": name, "ms": round(took, 3), **answer}
    if args.json:
        print_json(poke_view.as_json(whole))
    else:
        print(poke_view.as_text(whole))
    return Exit.DONE


def _client(args: Namespace) -> ModbusTCPClient:
    try:
        return ModbusTCPClient.at(args.url, unit_id=args.unit, timeout=args.timeout)
    except (ValueError, ConfigError) as error:
        raise CommandError(f"cpc poke modbus: {args.url}: {error}", Exit.USAGE) from error


def _changes(name: str, arguments: Sequence[str]) -> bool:
    return name == "fc08" and bool(arguments) and _word(arguments[0]) not in _HARMLESS


def _hint(error: ModbusError) -> str:
    """What a person who has a manual with reference numbers in hand may have overlooked."""
    address = error.address
    if not isinstance(error, ModbusExceptionError) or error.code != 2 or not isinstance(address, int):
        return ""
    for base in (10001, 30001, 40001):
        if base <= address < base + 9999:
            return f"\n(number {address} in a manual is often the protocol address {address - base})"
    return ""


# ---------------------------------------------------------------- arguments


def _word(text: str) -> int:
    """A number of 16 bits, decimal, 0x or 0b, also negative."""
    try:
        value = int(text, 0)
    except ValueError:
        raise CommandError(f"cpc poke modbus: {text!r} is no number; decimal, 0x... or 0b...", Exit.USAGE) from None
    if not -0x8000 <= value <= 0xFFFF:
        raise CommandError(f"cpc poke modbus: {text} does not fit 16 bits; -32768 to 65535, or --as", Exit.USAGE)
    return value & 0xFFFF


def _bit(text: str) -> bool:
    if text.lower() not in _ON:
        raise CommandError(f"cpc poke modbus: {text!r}; one of {', '.join(_ON)}", Exit.USAGE)
    return _ON[text.lower()]


def _words(texts: Sequence[str], args: Namespace) -> list[int]:
    """Registers to be written: numbers, or values of the type that --as names."""
    if args.kind is None:
        return [_word(text) for text in texts]
    words: list[int] = []
    kind = Datatype(args.kind)
    for text in texts:
        size = kind.registers or (len(text.encode()) + 1) // 2
        point = ModbusPoint(name=text, read_function=ReadFunction.HOLDING_REGISTERS, address=0, datatype=kind,
                            registers=size, order=args.order)
        value: Any = text if kind is Datatype.STRING else _number(text)
        data = encode(point, value)
        words += [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]
    return words


def _number(text: str) -> int | float:
    for kind in (lambda word: int(word, 0), float):
        with contextlib.suppress(ValueError):
            value: int | float = kind(text)
            return value
    raise CommandError(f"cpc poke modbus: {text!r} is no number; such as 21.5, -3 or 0x10", Exit.USAGE)


# ---------------------------------------------------------------- functions


def _read_bits(number: int) -> Callable[[ModbusTCPClient, Sequence[str], Namespace], Answer]:
    def ask(client: ModbusTCPClient, texts: Sequence[str], _args: Namespace) -> Answer:
        address, count = _word(texts[0]), _word(texts[1]) if len(texts) > 1 else 1
        read = client.fc01_read_coil_status if number == 1 else client.fc02_read_discrete_inputs
        return {"address": address, "bits": read(address, count)}
    return ask


def _read_registers(number: int) -> Callable[[ModbusTCPClient, Sequence[str], Namespace], Answer]:
    def ask(client: ModbusTCPClient, texts: Sequence[str], _args: Namespace) -> Answer:
        address, count = _word(texts[0]), _word(texts[1]) if len(texts) > 1 else 1
        read = client.fc03_read_holding_registers if number == 3 else client.fc04_read_input_registers
        return {"address": address, "registers": read(address, count)}
    return ask


def _fc05(client: ModbusTCPClient, texts: Sequence[str], _args: Namespace) -> Answer:
    address, value = _word(texts[0]), _bit(texts[1])
    client.fc05_write_single_coil(address, value)
    return {"address": address, "written": [value]}


def _fc06(client: ModbusTCPClient, texts: Sequence[str], args: Namespace) -> Answer:
    address, words = _word(texts[0]), _words(texts[1:], args)
    if len(words) != 1:
        raise CommandError(f"cpc poke modbus: fc06 writes one register, and this takes {len(words)}; fc16", Exit.USAGE)
    client.fc06_write_single_register(address, words[0])
    return {"address": address, "written": words}


def _fc08(client: ModbusTCPClient, texts: Sequence[str], _args: Namespace) -> Answer:
    subfunction = _word(texts[0]) if texts else 0
    digits = re.sub(r"^0x|[ :]", "", texts[1]) if len(texts) > 1 else "0000"
    if not re.fullmatch(r"([0-9A-Fa-f]{4})+", digits):
        raise CommandError(f"cpc poke modbus: {texts[1]!r}; hexadecimal digits, four for each word", Exit.USAGE)
    data = bytes.fromhex(digits)
    return {"subfunction": subfunction, "data": client.fc08_diagnostics(subfunction, data).hex()}


def _fc15(client: ModbusTCPClient, texts: Sequence[str], _args: Namespace) -> Answer:
    address, bits = _word(texts[0]), [_bit(text) for text in texts[1:]]
    client.fc15_write_multiple_coils(address, bits)
    return {"address": address, "written": bits}


def _fc16(client: ModbusTCPClient, texts: Sequence[str], args: Namespace) -> Answer:
    address, words = _word(texts[0]), _words(texts[1:], args)
    client.fc16_write_multiple_registers(address, words)
    return {"address": address, "written": words}


def _fc17(client: ModbusTCPClient, _texts: Sequence[str], _args: Namespace) -> Answer:
    content, running = client.fc17_report_server_id()
    return {"data": content.hex(), "text": as_text(content), "running": running}


def _fc22(client: ModbusTCPClient, texts: Sequence[str], _args: Namespace) -> Answer:
    address, and_mask, or_mask = (_word(text) for text in texts)
    client.fc22_mask_write_register(address, and_mask, or_mask)
    return {"address": address, "and_mask": and_mask, "or_mask": or_mask}


def _fc23(client: ModbusTCPClient, texts: Sequence[str], args: Namespace) -> Answer:
    address, count, write_address = (_word(text) for text in texts[:3])
    words = _words(texts[3:], args)
    found = client.fc23_read_write_registers(address, count, write_address, words)
    return {"address": address, "registers": found, "write_address": write_address, "written": words}


def _fc24(client: ModbusTCPClient, texts: Sequence[str], _args: Namespace) -> Answer:
    address = _word(texts[0])
    return {"address": address, "registers": client.fc24_read_fifo_queue(address), "queue": True}


def _fc43(client: ModbusTCPClient, texts: Sequence[str], _args: Namespace) -> Answer:
    category = texts[0].lower() if texts else "basic"
    if category not in _CATEGORIES:
        raise CommandError(f"cpc poke modbus: {texts[0]!r}; one of {', '.join(_CATEGORIES)}", Exit.USAGE)
    found = client.fc43_read_device_identification(_CATEGORIES[category])
    return {"objects": {object_name(number): as_text(content) for number, content in found.items()}}


FUNCTIONS: dict[str, Function] = {
    "fc01": Function("ADDRESS [COUNT]", 1, 2, _read_bits(1)),
    "fc02": Function("ADDRESS [COUNT]", 1, 2, _read_bits(2)),
    "fc03": Function("ADDRESS [COUNT]", 1, 2, _read_registers(3)),
    "fc04": Function("ADDRESS [COUNT]", 1, 2, _read_registers(4)),
    "fc05": Function("ADDRESS on|off --write", 2, 2, _fc05, writes=True),
    "fc06": Function("ADDRESS VALUE --write", 2, 2, _fc06, writes=True),
    "fc08": Function("[SUBFUNCTION [HEX]]", 0, 2, _fc08),
    "fc15": Function("ADDRESS on|off... --write", 2, None, _fc15, writes=True),
    "fc16": Function("ADDRESS VALUE... --write", 2, None, _fc16, writes=True),
    "fc17": Function("", 0, 0, _fc17),
    "fc22": Function("ADDRESS AND_MASK OR_MASK --write", 3, 3, _fc22, writes=True),
    "fc23": Function("ADDRESS COUNT WRITE_ADDRESS VALUE... --write", 4, None, _fc23, writes=True),
    "fc24": Function("ADDRESS", 1, 1, _fc24),
    "fc43": Function("[basic|regular|extended]", 0, 1, _fc43),
}
