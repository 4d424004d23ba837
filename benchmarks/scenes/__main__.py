"""``python -m benchmarks.scenes``: see run."""

from benchmarks.scenes.run import main

if __name__ == "__main__":
    main()
