"""A camera on loopback for tests: GStreamer's RTSP server, with a clock in every image.

    /usr/bin/python3 tests/runtime/rtsp_camera.py PORT FRAMES_PER_SECOND

Runs in the system's Python, which has GStreamer's bindings (Debian: gir1.2-gst-rtsp-server-1.0). The upper 16 rows show
CLOCK_MONOTONIC in milliseconds as 32 bits of 8x16 pixels, highest bit first. Commands on standard input: "freeze",
"black", "stall" (sends nothing more) and "go" (ends these); "size WIDTHxHEIGHT"; "rate FRAMES_PER_SECOND";
"pixels I420" or "pixels Y42B"; "codec jpeg", "codec h264" (VP8 if there is no encoder) or "codec vp8", which
disconnects all clients, like a real camera.
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
ENCODERS = {
    "jpeg": "jpegenc quality=90 ! rtpjpegpay name=pay0 pt=26",
    "h264": "openh264enc gop-size=10 ! rtph264pay name=pay0 pt=96 config-interval=-1",
    "vp8": "vp8enc deadline=1 keyframe-max-dist=10 ! rtpvp8pay name=pay0 pt=96",
}


class Camera:
    """Sends images at a rate to all connected clients."""

    def __init__(self, rate: float) -> None:
        self.rate, self.state, self.size, self.pixels, self.codec = rate, "go", (256, 160), "I420", "jpeg"
        self.sources: list[Any] = []
        """One source per client, and the element that sets its pixel format."""
        self.formats: list[Any] = []
        self.on_codec = lambda: None
        """Called when ``codec`` changes."""
        self._frozen = self._make_image()

    def _make_image(self) -> bytes:
        width, height = self.size
        now = int(time.monotonic() * 1000) & 0xFFFFFFFF
        row = b"".join((b"\xf0" if now >> bit & 1 else b"\x10") * BIT_WIDTH for bit in reversed(range(BITS)))
        row += b"\x80" * (width - len(row))
        return row * CLOCK_ROWS + random.randbytes(width) * (height - CLOCK_ROWS)

    def run(self) -> None:
        """Run forever."""
        due = time.monotonic()
        while True:
            due += 1 / self.rate
            time.sleep(max(0.0, due - time.monotonic()))
            if self.state == "stall":
                continue
            if self.state == "go":
                self._frozen = self._make_image()
            data = bytes(len(self._frozen)) if self.state == "black" else self._frozen
            for source in list(self.sources):
                if source.emit("push-buffer", Gst.Buffer.new_wrapped(data)) != Gst.FlowReturn.OK:
                    del self.formats[self.sources.index(source)]
                    self.sources.remove(source)

    def listen(self) -> None:
        """Handle a command on standard input."""
        for line in sys.stdin:
            command, *rest = line.split()
            if command == "size":
                width, height = map(int, rest[0].split("x"))
                self.size = width, height
                for source in self.sources:
                    source.set_property("caps", self.caps())
                self._frozen = self._make_image()
            elif command == "rate":
                self.rate = float(rest[0])
            elif command == "pixels":
                self.pixels = rest[0]
                for pixels in self.formats:
                    pixels.set_property("caps", self.coded_caps())
            elif command == "codec":
                h264 = Gst.ElementFactory.find("openh264enc")
                self.codec = "vp8" if rest[0] == "h264" and h264 is None else rest[0]
                self.on_codec()
            else:
                self.state = command

    def caps(self) -> Any:
        """Caps of the current images."""
        width, height = self.size
        return Gst.Caps.from_string(
            f"video/x-raw,format=GRAY8,width={width},height={height},framerate={int(self.rate)}/1"
        )

    def coded_caps(self) -> Any:
        """Caps of the images to encode."""
        return Gst.Caps.from_string(f"video/x-raw,format={self.pixels if self.codec == 'jpeg' else 'I420'}")

    def connect(self, _factory: Any, media: Any) -> None:
        """Handle a new client."""
        source = media.get_element().get_by_name("camera")
        source.set_property("caps", self.caps())
        pixels = media.get_element().get_by_name("pixels")
        pixels.set_property("caps", self.coded_caps())
        self.formats.append(pixels)
        self.sources.append(source)


def main() -> None:
    Gst.init(None)
    camera = Camera(float(sys.argv[2]))
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    factory = GstRtspServer.RTSPMediaFactory.new()

    def encode() -> None:
        factory.set_launch(
            "( appsrc name=camera is-live=true do-timestamp=true format=time max-buffers=2 leaky-type=downstream"
            f" ! videoconvert ! capsfilter name=pixels ! {ENCODERS[camera.codec]} )"
        )

    def disconnect_clients() -> None:
        encode()
        server.client_filter(lambda *_: GstRtspServer.RTSPFilterResult.REMOVE)

    encode()
    camera.on_codec = lambda: GLib.idle_add(disconnect_clients)
    factory.connect("media-configure", camera.connect)
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)
    for work in (camera.run, camera.listen):
        threading.Thread(target=work, daemon=True).start()
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
