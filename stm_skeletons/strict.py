"""What all our files' models have in common, and how their errors are told."""

from functools import cached_property

from pydantic import BaseModel, ConfigDict, ValidationError

from stm_skeletons.errors import one_line


class Strict(BaseModel):
    """Cannot be changed, and refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))


class Exact(Strict):
    """Takes no text for a number and no 1 for a switch, either."""

    model_config = ConfigDict(strict=True)


def what_is_wrong(error: ValidationError) -> str:
    """The first thing, and where it is, on one line."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    what = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return one_line(f"{where}: {what}{more}" if where else f"{what}{more}")
