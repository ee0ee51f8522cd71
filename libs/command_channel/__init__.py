"""How programs ask the partition for a change: messages, the socket's place, and a client. Imports nothing of ours.

The command gate (`cpc.commands`) is the other end. A consumer needs this package alone:

    with CommandClient() as gate:
        answer = gate.write("Boiler/Setpoint", 72.5)
        print(answer.status, answer.message)
"""

from command_channel.client import CommandClient, GateBusy, GateUnavailable
from command_channel.messages import (
    MOST_BYTES,
    NEVER_HEARD,
    UNDER_WAY,
    USED_BEFORE,
    Answer,
    Command,
    MessageError,
    Mode,
    Status,
    Value,
    decode_answer,
    decode_command,
    encode_answer,
    encode_command,
)
from command_channel.places import gate_socket, outlet_socket, socket_folder

__all__ = [
    "MOST_BYTES", "NEVER_HEARD", "UNDER_WAY", "USED_BEFORE", "Answer", "Command",
    "CommandClient", "GateBusy", "GateUnavailable", "MessageError", "Mode", "Status", "Value",
    "decode_answer", "decode_command", "encode_answer", "encode_command", "gate_socket", "outlet_socket",
    "socket_folder",
]
