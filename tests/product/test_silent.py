"""No unrequested network access: attempts of the process and its libraries are recorded below Python."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import COMMAND

# Libraries in any language connect through these functions.
SPY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *what) {
    const char *path = getenv("SPY_LOG");
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (file >= 0) { if (write(file, what, strlen(what)) < 0 || write(file, "\n", 1) < 0) {} close(file); }
}
static int outside(const struct sockaddr *to) { return to && (to->sa_family == AF_INET || to->sa_family == AF_INET6); }

int connect(int s, const struct sockaddr *to, socklen_t n) {
    if (outside(to)) note("connect");
    return ((int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect"))(s, to, n);
}
ssize_t sendto(int s, const void *b, size_t n, int f, const struct sockaddr *to, socklen_t m) {
    if (outside(to)) note("sendto");
    ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "sendto");
    return real(s, b, n, f, to, m);
}
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    note(node ? node : "getaddrinfo");
    return ((int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(
        RTLD_NEXT, "getaddrinfo"))(node, service, hints, found);
}
"""
PYTHON_API = """
import numpy as np
from runtime import BackendOptions
from stm_skeletons import Session
with Session.open({bundle!r}, BackendOptions({backend!r})) as session:
    session.step(np.zeros((64, 96, 3), np.uint8))
"""


@pytest.fixture(scope="module")
def spy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    folder = tmp_path_factory.mktemp("spy")
    (folder / "spy.c").write_text(SPY)
    command = ["gcc", "-shared", "-fPIC", "-o", str(folder / "spy.so"), str(folder / "spy.c"), "-ldl"]
    subprocess.run(command, check=True)
    return folder / "spy.so"


def attempts(spy: Path, home: Path, *command: str) -> list[str]:
    """Connections that a program tries to make outside CI, and the files that it leaves in a new home folder."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    log = home.with_suffix(".log")
    environment = kept | {"LD_PRELOAD": str(spy), "SPY_LOG": str(log), "HOME": str(home)}
    environment.pop("XDG_CACHE_HOME", None)
    home.mkdir()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    left = [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]
    return (log.read_text().splitlines() if log.exists() else []) + left


def test_spy_records_connections(spy: Path, tmp_path: Path):
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))"
    assert attempts(spy, tmp_path / "home", sys.executable, "-c", code) == ["connect"]


def test_run_info_and_python_api_use_no_network(spy: Path, clip: Path, edge_bundle: Path, tmp_path: Path):
    run = (
        *COMMAND,
        "run",
        str(clip),
        "--model",
        str(edge_bundle),
        "--max-frames",
        "3",
        "--quiet",
        "--backend",
        "onnxruntime",
    )
    assert attempts(spy, tmp_path / "run", *run) == []
    code = PYTHON_API.format(bundle=str(edge_bundle), backend="onnxruntime")
    assert attempts(spy, tmp_path / "api", sys.executable, "-c", code) == []
    assert attempts(spy, tmp_path / "info", *COMMAND, "info", str(edge_bundle)) == []


def test_openvino_uses_no_network_and_leaves_only_its_models(spy: Path, edge_bundle: Path, tmp_path: Path):
    """By default OpenVINO collects usage statistics in its own folder and sends them."""
    pytest.importorskip("openvino")
    code = PYTHON_API.format(bundle=str(edge_bundle), backend="openvino")
    left = attempts(spy, tmp_path / "home", sys.executable, "-c", code)
    assert len(left) == 3
    assert all(name.startswith(".cache/stm-skeletons/openvino/") and name.endswith(".blob") for name in left), left
