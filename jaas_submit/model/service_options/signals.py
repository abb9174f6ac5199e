"""PURE: Linux's signals."""

from __future__ import annotations

from typing import Final

__all__ = ["SIGNALS"]

SIGNALS: Final = {
    **dict(
        enumerate(
            (
                *(
                    "HUP",
                    "INT",
                    "QUIT",
                    "ILL",
                    "TRAP",
                    "ABRT",
                    "BUS",
                    "FPE",
                    "KILL",
                    "USR1",
                    "SEGV",
                    "USR2",
                    "PIPE",
                    "ALRM",
                ),
                *("TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM"),
                *("PROF", "WINCH", "IO", "PWR", "SYS"),
            ),
            start=1,
        )
    ),
    34: "RTMIN",
    64: "RTMAX",
}
"""Linux's signals by their numbers: containers run there, and the system that runs here may have others."""
