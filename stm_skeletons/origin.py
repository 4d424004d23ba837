"""The origin of weights: its stages, separated by "; ", from the first source to the last training."""


def brief_origin(origin: str) -> str:
    """The last stage, and how many there were before it."""
    *earlier, last = origin.split("; ")
    if not earlier:
        return last
    return f"{last} (history of {len(earlier)} earlier step{'s' if len(earlier) > 1 else ''})"
