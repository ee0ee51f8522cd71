"""`cpc completion`: what a shell needs to complete cpc's commands, files, segments and points."""

from __future__ import annotations

from argparse import Namespace

from cpc.commandline.errors import Exit


def run(args: Namespace) -> int:
    """Print the script; `eval "$(cpc completion bash)"` switches completion on."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["cpc"], shell=args.shell))
    return Exit.DONE
