"""Publishes people, events and states to an MQTT broker."""

import json
import ssl
import threading
import time
from pathlib import Path

from paho.mqtt.client import Client, ConnectFlags, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from runtime.service.config import MqttConfig
from runtime.service.outputs.texts import event_fields, utc_text
from runtime.service.outputs.worker import Worker, without_image
from runtime.service.results import Result
from stm_skeletons.errors import ServiceError, SinkError
from stm_skeletons.files import read_text

_MOST = 200
"""Most results per camera that may wait for the broker."""
_TAKES = 5.0
"""Seconds that the broker may take for a message."""
_KEEPALIVE = 15
"""Seconds after which a broker that does not respond counts as gone."""
_LONGEST_PASSWORD = 65_535


class MqttPublisher:
    """The connection to a broker, re-established whenever it is lost.

    Topics below ``mqtt.topic``: "status" is "online", or "offline" (also set by the broker if the service dies);
    "CAMERA/people" for each frame and "CAMERA/events" for each event are JSON; "CAMERA/state" is a word. "status" and
    "CAMERA/state" are retained.
    """

    def __init__(self, mqtt: MqttConfig) -> None:
        """Starts connecting, without waiting. Raises ServiceError if a configured file is invalid."""
        self._config = mqtt
        self._broker = f"the MQTT broker {mqtt.host}:{mqtt.port}"
        self._lock = threading.Lock()
        self._states: dict[str, str] = {}
        self._outputs: list[MqttOutput] = []
        self._refused: str | None = None
        self._closed = False
        client = self._client = Client(CallbackAPIVersion.VERSION2)
        if mqtt.username is not None:
            client.username_pw_set(mqtt.username, _password(mqtt.password_file))
        if mqtt.certificate_authority is not None:
            _use_tls(client, mqtt.certificate_authority)
        client.will_set(self._topic("status"), "offline", qos=1, retain=True)
        client.reconnect_delay_set(min_delay=1, max_delay=8)
        client.max_queued_messages_set(_MOST)
        client.suppress_exceptions = True  # an exception would end the thread and the connection
        client.on_connect, client.on_connect_fail = self._connected, self._not_reached
        client.connect_async(mqtt.host, mqtt.port, keepalive=_KEEPALIVE)
        client.loop_start()

    def output(self, camera: str) -> "MqttOutput":
        """Create the output of a camera, which has its own thread."""
        output = MqttOutput(self, camera)
        with self._lock:
            self._outputs.append(output)
        return output

    def publish_state(self, camera: str, text: str) -> None:
        """Publish a camera's state, now and after each reconnect. Never waits."""
        with self._lock:
            self._states[camera] = text
            if self._client.is_connected():
                self._publish(f"{camera}/state", text, retain=True)

    def problem(self) -> str | None:
        """Return on one line why nothing can be published; None if all is well."""
        if self._client.is_connected():
            return None
        return f"{self._broker} cannot be reached" if self._refused is None else self._refused

    def close(self, within: float) -> None:
        """Publish "offline" and disconnect. Call after the outputs are closed. May be called twice."""
        deadline = time.monotonic() + within
        with self._lock:
            closed, self._closed = self._closed, True
        if closed:
            return
        if self._client.is_connected():
            info = self._publish("status", "offline", qos=1, retain=True)
            _wait(info, deadline - time.monotonic())
        self._client.disconnect()
        stopping = threading.Thread(target=self._client.loop_stop, name="ends MQTT", daemon=True)
        stopping.start()  # it joins a thread that may hang while connecting
        stopping.join(max(0.1, deadline - time.monotonic()))

    def send(self, topic: str, text: str, qos: int) -> None:
        """Publish, and wait until the broker (QoS 1) or the network has accepted it. Raises SinkError."""
        problem = self.problem()
        if problem is not None:
            raise SinkError(problem)
        if not _wait(self._publish(topic, text, qos), _TAKES):
            raise SinkError(f"{self._broker} accepts no messages")

    def forget(self, output: "MqttOutput") -> None:
        """Remove a closed output."""
        with self._lock:
            self._outputs = [each for each in self._outputs if each is not output]

    @property
    def qos(self) -> int:
        """QoS of events."""
        return self._config.qos

    def _topic(self, below: str) -> str:
        return f"{self._config.topic}/{below}"

    def _publish(self, below: str, text: str, qos: int = 0, retain: bool = False) -> MQTTMessageInfo:
        return self._client.publish(self._topic(below), text, qos, retain)

    # In the client's thread

    def _connected(
        self, _client: Client, _data: object, _flags: ConnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if code.is_failure:
            self._refused = f"{self._broker} refuses the connection: {code}"
            return
        with self._lock:
            self._refused = None
            self._publish("status", "online", retain=True)
            for camera, text in self._states.items():
                self._publish(f"{camera}/state", text, retain=True)
            outputs = list(self._outputs)
        for output in outputs:
            output.retry_now()

    def _not_reached(self, _client: Client, _data: object) -> None:
        self._refused = None


class MqttOutput(Worker):
    """Publishes a camera's people, which are dropped while disconnected, and its events, which wait."""

    name = "mqtt"

    def __init__(self, publisher: MqttPublisher, camera: str) -> None:
        """Use ``MqttPublisher.output`` instead."""
        super().__init__(camera, _MOST, retries=True)
        self._publisher = publisher
        self.start()

    def offer(self, result: Result) -> None:
        if result.events or self._publisher.problem() is None:
            super().offer(without_image(result))
        else:  # past positions are of no use later
            self._drop()

    def problem(self) -> str | None:
        return super().problem() or self._publisher.problem()

    def close(self, within: float) -> None:
        super().close(within)
        self._publisher.forget(self)

    def _write(self, result: Result) -> None:
        camera = result.camera
        self._publisher.send(f"{camera}/people", people_text(result), 0)
        for event in result.events:
            self._publisher.send(f"{camera}/events", json.dumps(event_fields(event)), self._publisher.qos)


def people_text(result: Result) -> str:
    """Return JSON with camera, utc, frame, time, size and people, as in the lines of ``run --parts``."""
    line = result.parts.to_dict(result.frame.number, result.frame.time)
    chosen = {name: line[name] for name in ("frame", "time", "size", "people")}
    return json.dumps({"camera": result.camera, "utc": utc_text(result.time)} | chosen, separators=(",", ":"))


def _wait(info: MQTTMessageInfo, seconds: float) -> bool:
    """Whether a message is sent within that time."""
    try:
        info.wait_for_publish(max(0.0, seconds))
        return info.is_published()
    except (RuntimeError, ValueError):  # the connection is lost, or the queue is full
        return False


def _password(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        password = read_text(Path(path)).rstrip("\r\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ServiceError(f"cannot read the MQTT password file {path}: {why}") from error
    if not 0 < len(password.encode()) <= _LONGEST_PASSWORD:
        raise ServiceError(f"the MQTT password file {path} is empty or too long for a password")
    return password


def _use_tls(client: Client, authority: str) -> None:
    try:
        client.tls_set(ca_certs=authority)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ServiceError(f"cannot use {authority} as the MQTT broker's certificate authority: {error}") from error
