"""The command gate: the only way back to the devices (NAMUR's verification of request).

A request comes in by a Unix socket (`command_channel`), is decided by rules (`decision`), written to the audit log
(`audit`) and only then handed to the service that owns the point (`outlet`, `orders`), which writes, reads back and
says what the device did. Nothing here knows a protocol of the field.
"""
