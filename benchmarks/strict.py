"""What all parts of all reports have in common."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Cannot be changed, and refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
