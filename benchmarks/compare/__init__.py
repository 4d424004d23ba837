"""``bench compare``: variants of the same work, timed interleaved in one run."""
