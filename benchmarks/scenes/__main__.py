"""``python -m benchmarks.scenes``: see scene_run."""

from benchmarks.scenes.scene_run import main

if __name__ == "__main__":
    main()
