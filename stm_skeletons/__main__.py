"""Makes ``python -m stm_skeletons`` the same as ``stm-skeletons``."""

from stm_skeletons.cli import main

if __name__ == "__main__":
    main()
