"""Checks a configuration before anything starts: files, folders, rules, and combinations of settings."""

import os
from pathlib import Path

from runtime.service.config import CameraConfig, ModelConfig, ServiceConfig
from stm_skeletons.bundle import Bundle
from stm_skeletons.errors import BundleError, ConfigError


def check(config: ServiceConfig) -> Bundle:
    """Check everything a configuration refers to, without changing anything.

    Returns:
        The configured model.

    Raises:
        BundleError: there is no such model, or it is damaged.
        ConfigError: settings contradict each other, a folder is not writable, or a file is not readable.
        ServiceError: a token or certificate is missing or invalid.
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
    """Reject options that the backend does not use, like ``run``."""
    if model.backend in ("openvino", "tensorrt") and model.provider != "cpu":
        raise ConfigError(f"model.provider applies to backend onnxruntime only, not {model.backend}; remove it")
    if model.backend != "tensorrt" and model.engines is not None:
        raise ConfigError("model.engines requires backend tensorrt; remove it")
    if model.backend != "tensorrt" and model.provider != "cuda" and not model.cuda_graphs:
        raise ConfigError("model.cuda_graphs requires backend tensorrt or provider cuda; remove it")


def _check_camera(camera: CameraConfig, bundle: Bundle) -> None:
    from runtime.service.rules import Rules

    where, info = f"camera {camera.name}", bundle.info
    if info.grouping == "none" and (camera.rules or camera.min_score is not None or camera.min_joints):
        raise BundleError(f"{where}: rules, min_score and min_joints need people, but this model reports parts only")
    if camera.min_joints > len(info.skeleton.joints):
        raise ConfigError(f"{where}: min_joints is {camera.min_joints}, more than the joints of this model's people")
    Rules(camera, info.skeleton)
    for output, told in (("lines", camera.lines), ("recording", camera.recording), ("clips", camera.clips)):
        if told is not None:
            _check_writable(f"{where}: {output}.folder", Path(told.folder))


def _check_writable(what: str, folder: Path) -> None:
    """Check that a folder is writable or can be created."""
    there = folder.absolute()
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
        writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except (OSError, ValueError):  # not permitted, or not a valid name
        writable = False
    if not writable:
        raise ConfigError(f"{what}: cannot write to {folder}; create it, or give the service's user write permission")


def _check_readable(what: str, file: str | None) -> None:
    if file is None:
        return
    try:
        with Path(file).open("rb"):
            return
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what}: cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
