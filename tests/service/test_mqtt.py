"""MQTT against a real Mosquitto on loopback, which is killed and restarted."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from people_at import result
from pydantic import ValidationError
from running import Broker, need
from test_recording import wait_until

from runtime.service.config import MqttConfig
from runtime.service.outputs.mqtt import MqttPublisher
from runtime.service.results import Event
from stm_skeletons.errors import ServiceError

PEOPLE = {7: {"ankles": (100.0, 150.0), "hips": (100.0, 90.0)}}
EVENT = Event("door", "gate", "line", 1_700_000_001.25, 7, "in", 1, "door-clip.mp4")


class Listener:
    """A subscriber that keeps all messages."""

    def __init__(self, broker: Broker, tls: str | None = None) -> None:
        self.messages: list[MQTTMessage] = []
        self._client = Client(CallbackAPIVersion.VERSION2)
        if tls is not None:
            self._client.tls_set(ca_certs=tls)
        self._client.on_message = self._arrived
        self._client.on_connect = self._connected
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()

    def _arrived(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.messages.append(message)

    def _connected(self, client: Client, *_: object) -> None:
        client.subscribe("#", qos=1)

    def texts(self, topic: str) -> list[str]:
        return [message.payload.decode() for message in list(self.messages) if message.topic == topic]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    yield broker
    broker.kill()


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    listener = Listener(broker)
    yield listener
    listener.close()


@pytest.fixture
def publisher(broker: Broker) -> Iterator[MqttPublisher]:
    publisher = MqttPublisher(MqttConfig(host="127.0.0.1", port=broker.port, topic="train/skeletons", qos=1))
    wait_until(lambda: publisher.problem() is None)
    yield publisher
    publisher.close(2)


def test_people_events_and_states_arrive(publisher: MqttPublisher, listener: Listener):
    wait_until(lambda: listener.texts("train/skeletons/status"))
    output = publisher.output("door")
    publisher.publish_state("door", "live")
    output.offer(result(time.monotonic(), PEOPLE, events=(EVENT,), number=3))
    wait_until(lambda: listener.texts("train/skeletons/door/events"))
    [people] = [json.loads(text) for text in listener.texts("train/skeletons/door/people")]
    assert people["camera"] == "door"
    assert (people["frame"], people["size"]) == (3, [400, 200])
    [person] = people["people"]
    assert set(person) == {"id", "score", "box", "keypoints", "predicted"}
    assert (person["id"], len(person["keypoints"])) == (7, 17)
    [event] = [json.loads(text) for text in listener.texts("train/skeletons/door/events")]
    assert (event["rule"], event["id"], event["utc"]) == ("gate", 7, "2023-11-14T22:13:21.250Z")
    assert listener.texts("train/skeletons/door/state") == ["live"]
    assert listener.texts("train/skeletons/status") == ["online"]
    qos = {message.topic.removeprefix("train/skeletons/"): message.qos for message in listener.messages}
    assert (qos["door/events"], qos["door/people"]) == (1, 0)
    output.close(1)
    assert output.counters() == {"written": 1, "dropped": 0, "failed": 0}


def test_late_subscriber_gets_the_latest_states(publisher: MqttPublisher, broker: Broker, listener: Listener):
    publisher.publish_state("door", "live")
    publisher.publish_state("door", "away")
    wait_until(lambda: "away" in listener.texts("train/skeletons/door/state"))
    late = Listener(broker)
    wait_until(lambda: late.texts("train/skeletons/door/state") and late.texts("train/skeletons/status"))
    assert [message.retain for message in late.messages] == [True, True]
    assert late.texts("train/skeletons/door/state") == ["away"]
    publisher.close(2)
    wait_until(lambda: late.texts("train/skeletons/status") == ["online", "offline"])
    late.close()


def test_broker_announces_that_the_service_died(broker: Broker, listener: Listener):
    code = (
        "import time; from runtime.service.config import MqttConfig; "
        "from runtime.service.outputs.mqtt import MqttPublisher; "
        f"MqttPublisher(MqttConfig(host='127.0.0.1', port={broker.port})); time.sleep(60)"
    )
    service = subprocess.Popen([sys.executable, "-c", code])
    wait_until(lambda: listener.texts("stm-skeletons/status") == ["online"], 10)
    service.send_signal(signal.SIGKILL)
    service.wait()
    wait_until(lambda: listener.texts("stm-skeletons/status") == ["online", "offline"])


def test_events_are_queued_while_the_broker_is_gone_and_offers_do_not_wait(
    publisher: MqttPublisher, broker: Broker, listener: Listener
):
    output = publisher.output("door")
    publisher.publish_state("door", "live")
    output.offer(result(time.monotonic(), PEOPLE))
    wait_until(lambda: output.counters()["written"] == 1)
    broker.kill()
    wait_until(output.problem)
    assert f"127.0.0.1:{broker.port} cannot be reached" in str(output.problem())
    started = time.monotonic()
    for number in range(1000):
        output.offer(result(started, PEOPLE, number=number, events=(EVENT,) if number % 100 == 0 else ()))
        publisher.publish_state("door", f"state {number}")
    assert time.monotonic() - started < 1, "an offer does not wait"
    assert output.counters()["dropped"] == 990, "old positions are of no use later"
    broker.start()
    wait_until(lambda: output.counters()["written"] == 11, 15)
    wait_until(lambda: "state 999" in listener.texts("train/skeletons/door/state"), 5)
    assert output.problem() is None
    assert publisher.problem() is None


def test_queue_for_a_missing_broker_is_bounded(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        publisher = MqttPublisher(MqttConfig(host="127.0.0.1", port=free.getsockname()[1]))
        output = publisher.output("door")
        for number in range(1000):
            output.offer(result(time.monotonic(), PEOPLE, number=number, events=(EVENT,)))
        assert len(output._queue) <= 200
        started = time.monotonic()
        output.close(1)
        publisher.close(1)
        assert time.monotonic() - started < 2.2
        counts = output.counters()
        assert counts["written"] == 0
        assert counts["dropped"] + counts["failed"] == 1000


def test_silent_broker_blocks_neither_offers_nor_closing(broker: Broker, publisher: MqttPublisher):
    """The broker is paused, not killed: the connection stays up."""
    output = publisher.output("door")
    broker.process.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        for number in range(2000):
            output.offer(result(started, PEOPLE, number=number, events=(EVENT,)))
        assert time.monotonic() - started < 2
        output.close(1)
        publisher.close(1)
        assert time.monotonic() - started < 4.5
    finally:
        broker.process.send_signal(signal.SIGCONT)


def test_password_is_read_from_its_file(tmp_path: Path):
    need("Debian's mosquitto", shutil.which("mosquitto_passwd"))
    (tmp_path / "users").write_text("")
    (tmp_path / "users").chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(tmp_path / "users"), "train", "geheim ü"], check=True)
    broker = Broker(tmp_path, "allow_anonymous false", f"password_file {tmp_path / 'users'}")
    (tmp_path / "right").write_text("geheim ü\n")
    (tmp_path / "wrong").write_text("other")
    for name in ("right", "wrong"):
        config = MqttConfig(host="127.0.0.1", port=broker.port, username="train", password_file=str(tmp_path / name))
        publisher = MqttPublisher(config)
        if name == "right":
            wait_until(lambda given=publisher: given.problem() is None)
        else:
            wait_until(lambda given=publisher: "refuses the connection" in str(given.problem()))
            assert "other" not in str(publisher.problem())
        publisher.close(2)
    broker.kill()


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_trusts_only_the_given_authority(tmp_path: Path):
    need("openssl", shutil.which("openssl"))

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=tmp_path)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout",
                f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-keyout", "s.key", "-out", "s.csr")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1")
    openssl("x509", "-req", "-in", "s.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "names", "-out", "s.pem")  # fmt: skip
    broker = Broker(
        tmp_path, "allow_anonymous true", f"certfile {tmp_path / 's.pem'}", f"keyfile {tmp_path / 's.key'}",
        f"cafile {tmp_path / 'ca.pem'}",
    )  # fmt: skip
    for name in ("ca", "other"):
        authority = str(tmp_path / f"{name}.pem")
        publisher = MqttPublisher(MqttConfig(host="127.0.0.1", port=broker.port, certificate_authority=authority))
        if name == "ca":
            wait_until(lambda given=publisher: given.problem() is None)
        else:
            time.sleep(1)
            assert publisher.problem() is not None
        publisher.close(2)
    broker.kill()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"username": "me", "password_file": "{folder}/none"}, "password file .*none: No such file"),
        ({"username": "me", "password_file": "{folder}/empty"}, "empty"),
        ({"certificate_authority": "{folder}/none"}, "certificate authority: .*No such file"),
        ({"certificate_authority": "{folder}/empty"}, "certificate authority"),
    ],
)
def test_unusable_files_are_reported_at_once(tmp_path: Path, settings: dict[str, str], match: str):
    (tmp_path / "empty").write_text("")
    values = {key: value.format(folder=tmp_path) for key, value in settings.items()}
    with pytest.raises(ServiceError, match=match) as error:
        MqttPublisher(MqttConfig.model_validate({"host": "127.0.0.1", **values}))
    assert "\n" not in str(error.value)


def test_password_needs_a_username():
    with pytest.raises(ValidationError, match="password_file needs a username"):
        MqttConfig(host="127.0.0.1", password_file="p")
