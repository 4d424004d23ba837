"""A camera on loopback for tests: a real RTSP server, GStreamer's, with a clock in every picture.

    /usr/bin/python3 tests/runtime/rtsp_camera.py PORT FRAMES_PER_SECOND

Run by the system's Python, which has GStreamer's bindings (Debian: gir1.2-gst-rtsp-server-1.0). The upper 16 rows hold
CLOCK_MONOTONIC in milliseconds, 32 bits of 8x16 pixels, highest first. What is read from standard input: "freeze",
"black", "stall" (nothing more is sent), "size WIDTHxHEIGHT" and "go", which ends all of these but the size.
"""

import random
import sys
import threading
import time
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

BITS, BIT_WIDTH, CLOCK_ROWS = 32, 8, 16


class Camera:
    """Pictures at a rate, into whatever is connected."""

    def __init__(self, rate: float) -> None:
        self.rate, self.state, self.size = rate, "go", (256, 160)
        self.sinks: list[Any] = []
        self._frozen = self._picture()

    def _picture(self) -> bytes:
        width, height = self.size
        now = int(time.monotonic() * 1000) & 0xFFFFFFFF
        row = b"".join((b"\xf0" if now >> bit & 1 else b"\x10") * BIT_WIDTH for bit in reversed(range(BITS)))
        row += b"\x80" * (width - len(row))
        return row * CLOCK_ROWS + random.randbytes(width) * (height - CLOCK_ROWS)

    def run(self) -> None:
        """For ever."""
        due = time.monotonic()
        while True:
            due += 1 / self.rate
            time.sleep(max(0.0, due - time.monotonic()))
            if self.state == "stall":
                continue
            if self.state == "go":
                self._frozen = self._picture()
            data = bytes(len(self._frozen)) if self.state == "black" else self._frozen
            for sink in list(self.sinks):
                if sink.emit("push-buffer", Gst.Buffer.new_wrapped(data)) != Gst.FlowReturn.OK:
                    self.sinks.remove(sink)

    def listen(self) -> None:
        """To standard input."""
        for line in sys.stdin:
            command, *rest = line.split()
            if command == "size":
                width, height = map(int, rest[0].split("x"))
                self.size = width, height
                for sink in self.sinks:
                    sink.set_property("caps", self.caps())
                self._frozen = self._picture()
            else:
                self.state = command

    def caps(self) -> Any:
        """Of the pictures as they are now."""
        width, height = self.size
        return Gst.Caps.from_string(
            f"video/x-raw,format=GRAY8,width={width},height={height},framerate={int(self.rate)}/1"
        )

    def connect(self, _factory: Any, media: Any) -> None:
        """Somebody looks."""
        sink = media.get_element().get_by_name("camera")
        sink.set_property("caps", self.caps())
        self.sinks.append(sink)


def main() -> None:
    Gst.init(None)
    camera = Camera(float(sys.argv[2]))
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_launch(
        "( appsrc name=camera is-live=true do-timestamp=true format=time max-buffers=2 leaky-type=downstream"
        " ! videoconvert ! video/x-raw,format=I420 ! jpegenc quality=90 ! rtpjpegpay name=pay0 pt=26 )"
    )
    factory.connect("media-configure", camera.connect)
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)
    for work in (camera.run, camera.listen):
        threading.Thread(target=work, daemon=True).start()
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
