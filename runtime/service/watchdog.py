"""The service manager's side: whether the service is stuck, and what systemd is told (sd_notify, by plain socket)."""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress


class StuckTest:
    """Stuck is: no frame was finished for so many seconds, while there was one all the time."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._finished = 0
        self._since = time.monotonic()

    def look(self, finished: int, has_work: bool) -> bool:
        """To be asked several times a second: frames finished since the start, and whether one waits now."""
        now = time.monotonic()
        if finished != self._finished or not has_work:
            self._finished, self._since = finished, now
        return now - self._since > self.patience


class ServiceManager:
    """Tells systemd how the service is, where it listens; see sd_notify(3)."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period = environment.get("WATCHDOG_USEC", "")
        self._interval = int(period) / 2e6 if ours and period.isdecimal() else None
        """Seconds between signs of life: half of what it allows."""
        self._next = 0.0
        self._status = ""

    def ready(self) -> None:
        """It works; also at the end of reloading."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """It reads its configuration again."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It finishes its files."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """It is not stuck. May be said as often as one likes."""
        now = time.monotonic()
        if self._interval is not None and now >= self._next:
            self._next = now + self._interval
            self._tell("WATCHDOG=1")

    def status(self, line: str) -> None:
        """What ``systemctl status`` shows."""
        if line != self._status:
            self._status = line
            self._tell(f"STATUS={line}")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.setblocking(False)
            to.sendto(message.encode(), address)
