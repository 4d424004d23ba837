"""``python -m stm_skeletons.cli``, for torchrun and the like."""

from stm_skeletons.cli import main

if __name__ == "__main__":
    main()
