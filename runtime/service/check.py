"""What can be said of a configuration before anything starts: files, folders, rules, and settings that go together."""

import os
from pathlib import Path

from runtime.service.config import CameraConfig, ModelConfig, ServiceConfig
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BundleError, ConfigError


def check(config: ServiceConfig) -> Bundle:
    """Check what a configuration names, without changing anything.

    Returns:
        The model that it names.

    Raises:
        BundleError: no such model, or it is damaged.
        ConfigError: settings contradict each other, a folder cannot be written, a file cannot be read.
        ServiceError: a token or certificate is missing or cannot be used.
    """
    _check_backend(config.model)
    bundle = Bundle.open(config.model.bundle)
    for camera in config.cameras:
        _check_camera(camera, bundle)
    if config.mqtt is not None:
        _check_readable("mqtt.password_file", config.mqtt.password_file)
        _check_readable("mqtt.certificate_authority", config.mqtt.certificate_authority)
    if config.web is not None:
        from runtime.service.web.access import Access
        from runtime.service.web.server import check_certificate

        Access(config.web)
        check_certificate(config.web)
    return bundle


def _check_backend(model: ModelConfig) -> None:
    """As ``run`` refuses options that the backend would not look at."""
    if model.backend in ("openvino", "tensorrt") and model.provider != "cpu":
        raise ConfigError(f"model.provider goes with backend onnxruntime, not with {model.backend}; leave it out")
    if model.backend != "tensorrt" and model.engines is not None:
        raise ConfigError("model.engines goes with backend tensorrt; leave it out")
    if model.backend != "tensorrt" and model.provider != "cuda" and not model.cuda_graphs:
        raise ConfigError("model.cuda_graphs goes with backend tensorrt or provider cuda; leave it out")


def _check_camera(camera: CameraConfig, bundle: Bundle) -> None:
    from runtime.service.rules import Rules

    where, info = f"camera {camera.name}", bundle.info
    if info.grouping == "none" and (camera.rules or camera.min_score is not None or camera.min_joints):
        raise BundleError(f"{where}: rules, min_score and min_joints are about people, of which this model gives none")
    if camera.min_joints > len(info.skeleton.joints):
        raise ConfigError(f"{where}: min_joints {camera.min_joints} is more than this model's people have")
    Rules(camera, info.skeleton)
    for output, told in (("lines", camera.lines), ("recording", camera.recording), ("clips", camera.clips)):
        if told is not None:
            _check_writable(f"{where}: {output}.folder", Path(told.folder))


def _check_writable(what: str, folder: Path) -> None:
    """A folder that is there, or can be made."""
    there = folder.absolute()
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
        writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except (OSError, ValueError):  # no permission to look, or no name at all
        writable = False
    if not writable:
        raise ConfigError(f"{what}: cannot write in {folder}; make it, or let the service's user write there")


def _check_readable(what: str, file: str | None) -> None:
    if file is None:
        return
    try:
        with Path(file).open("rb"):
            return
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what}: cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
