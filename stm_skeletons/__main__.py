"""``python -m stm_skeletons`` is ``stm-skeletons``."""

from stm_skeletons.cli import main

if __name__ == "__main__":
    main()
