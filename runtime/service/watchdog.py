"""Detects a stuck service, and notifies systemd (sd_notify, through a plain socket)."""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress


class StuckTest:
    """Detects that no frame was finished for ``patience`` seconds although one was always waiting."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._finished = 0
        self._since = time.monotonic()

    def update(self, finished: int, has_work: bool) -> bool:
        """Update several times per second with the frames finished so far and whether one waits; return if stuck."""
        now = time.monotonic()
        if finished != self._finished or not has_work:
            self._finished, self._since = finished, now
        return now - self._since > self.patience


class ServiceManager:
    """Notifies systemd of the service's condition, if it is listening; see sd_notify(3)."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period = environment.get("WATCHDOG_USEC", "")
        self._interval = int(period) / 2e6 if ours and period.isdecimal() else None
        """Seconds between watchdog messages: half of the allowed interval."""
        self._next = 0.0
        self._status = ""

    def ready(self) -> None:
        """Report that the service works; also after reloading."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Report that the configuration is being reloaded."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Report that the service is stopping."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """Report that the service is not stuck. May be called at any rate."""
        now = time.monotonic()
        if self._interval is not None and now >= self._next:
            self._next = now + self._interval
            self._tell("WATCHDOG=1")

    def status(self, line: str) -> None:
        """Set the text that ``systemctl status`` shows."""
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
