"""``python -m edif_backend.cli.watch``: supervisord, made to start again at once what has died.

Started by :mod:`edif_backend.cli.supervision` with supervisord's own arguments; runs as the supervisor.  supervisord
wakes once a second unless something is printed, and notices a death at one waking and starts the program at the next:
up to two seconds in which nobody reaches the proxy.  Ten wakings a second cost about a thousandth of a core.
"""

from __future__ import annotations

from supervisor import poller, supervisord

_WAKE_S = 0.1


class Wakeful(poller.Poller):  # type: ignore[misc]  # supervisor has no types
    """Waits for what the programs print, never for long."""

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        """The descriptors that can be read, and written."""
        found: tuple[list[int], list[int]] = super().poll(min(timeout, _WAKE_S))
        return found


def main() -> None:
    """Run until told to stop; the arguments are supervisord's."""
    poller.Poller = Wakeful  # where it looks for the class when it starts
    supervisord.main()


if __name__ == "__main__":
    main()
