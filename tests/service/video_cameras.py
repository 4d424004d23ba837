"""Several cameras on loopback for tests; each sends the JPEGs of a folder in a loop.

    /usr/bin/python3 tests/service/video_cameras.py PORT FRAMES_PER_SECOND FOLDER...

Run by the system's Python, see tests/runtime/rtsp_camera.py. The first folder is at rtsp://127.0.0.1:PORT/0.
"""

import sys
import threading
import time
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

LAUNCH = (
    "( appsrc name=camera is-live=true do-timestamp=true format=time max-buffers=2 leaky-type=downstream"
    " ! jpegparse ! rtpjpegpay name=pay0 pt=26 )"
)


class Camera:
    """Sends a folder's images at a rate to all connected clients."""

    def __init__(self, folder: Path) -> None:
        self.images = [file.read_bytes() for file in sorted(folder.iterdir())]
        self.sinks: list[Any] = []

    def connect(self, _factory: Any, media: Any) -> None:
        """Handle a new client."""
        sink = media.get_element().get_by_name("camera")
        sink.set_property("caps", Gst.Caps.from_string("image/jpeg"))
        self.sinks.append(sink)

    def send(self, index: int) -> None:
        """Send the next image."""
        data = self.images[index % len(self.images)]
        for sink in list(self.sinks):
            if sink.emit("push-buffer", Gst.Buffer.new_wrapped(data)) != Gst.FlowReturn.OK:
                self.sinks.remove(sink)


def run(cameras: list[Camera], rate: float) -> None:
    """Send forever, one camera after the other."""
    due, step = time.monotonic(), 0
    while True:
        due += 1 / rate / len(cameras)
        time.sleep(max(0.0, due - time.monotonic()))
        index, camera = divmod(step, len(cameras))
        cameras[camera].send(index)
        step += 1


def main() -> None:
    Gst.init(None)
    port, rate, *folders = sys.argv[1:]
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(port)
    cameras = [Camera(Path(folder)) for folder in folders]
    for index, camera in enumerate(cameras):
        factory = GstRtspServer.RTSPMediaFactory.new()
        factory.set_launch(LAUNCH)
        factory.connect("media-configure", camera.connect)
        server.get_mount_points().add_factory(f"/{index}", factory)
    server.attach(None)
    threading.Thread(target=run, args=(cameras, float(rate)), daemon=True).start()
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
