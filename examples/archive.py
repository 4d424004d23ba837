"""Labels an archive of videos on many machines with Ray: one session per worker, one whole video per task.

pip install 'ray>=2.40'
python examples/archive.py FOLDER --out RESULTS [--workers N] [--address auto]

Writes RESULTS/NAME.jsonl for every video below FOLDER. Run the same command again after an interruption: videos with
results are skipped. A video that cannot be read is reported, and the others go on. FOLDER and RESULTS must be the same
on all machines, for instance on a network share.
"""

import argparse
import os
import sys
from contextlib import closing
from pathlib import Path

import ray

from runtime import BackendOptions, Session
from runtime.run import run
from runtime.sinks import JsonLinesSink
from runtime.sources import open_source
from stm_skeletons.errors import StmError
from stm_skeletons.files import partial_path

SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"}


@ray.remote(num_cpus=1)
class Worker:
    """Has one session for all videos that it is given."""

    def __init__(self) -> None:
        self._session = Session.open("edge", BackendOptions(threads=1))

    def label(self, video: Path, out: Path) -> tuple[bool, str]:
        """Whether it worked, and a line about it. Results have a temporary name until they are complete."""
        partial = None
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            partial = partial_path(out)
            partial.unlink(missing_ok=True)  # of a worker that was killed
            self._session.reset()
            with closing(open_source(str(video))) as source:
                summary = run(source, self._session, [JsonLinesSink(str(partial))])
            if summary.broken is not None:
                raise summary.broken
            os.replace(partial, out)
        except (StmError, OSError) as error:
            if partial is not None:
                partial.unlink(missing_ok=True)
            return False, f"{video}: {error}"
        return True, f"{video}: {summary.frames} frames, {summary.people} people"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, help="default: one per CPU core of the cluster")
    parser.add_argument("--address", help="of a running cluster, 'auto' for this machine's; default: start one here")
    arguments = parser.parse_args()
    videos = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    tasks = [(video, arguments.out / f"{video.relative_to(arguments.folder)}.jsonl") for video in videos]
    tasks = [(video, out) for video, out in tasks if not out.exists()]
    print(f"{len(videos)} videos, {len(videos) - len(tasks)} of them done before", flush=True)
    if not tasks:
        return 0
    ray.init(address=arguments.address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    count = min(arguments.workers or int(ray.cluster_resources()["CPU"]), len(tasks))
    pool = ray.util.ActorPool([Worker.remote() for _ in range(count)])
    failed = 0
    for worked, line in pool.map_unordered(lambda worker, task: worker.label.remote(*task), tasks):
        failed += not worked
        print(line, flush=True)
    ray.shutdown()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
