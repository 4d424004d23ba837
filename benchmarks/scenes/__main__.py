"""``python -m benchmarks.scenes``: see run."""

from benchmarks.scenes.scene_run import main

if __name__ == "__main__":
    main()
