"""The onboard service: many cameras on one device. See docs/service.md and ``stm-skeletons serve --help``."""
