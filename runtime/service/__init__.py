"""The onboard service: many cameras on one device, for days. See docs/service.md and ``stm-skeletons serve --help``."""
