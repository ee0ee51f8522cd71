"""The sub-commands of `cpc`, one module each; a module is imported when its command is called.

Each offers `run(args) -> int`, which returns the exit status or raises CommandError.
"""
