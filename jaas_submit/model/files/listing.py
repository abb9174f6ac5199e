"""PURE: which files an attempt handed out, as its record lists them."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from jaas_submit.model.bounds import counted
from jaas_submit.model.fields import StoredLogStatus
from jaas_submit.model.files.patterns import MAX_LIST_BYTES, MAX_NAME, Pattern
from jaas_submit.model.logs import LogStatus

__all__ = ["MAX_FILES", "MAX_LIST_BYTES", "OutputFile", "OutputFiles", "PatternText", "stored_name"]

MAX_FILES: Final = 1000
"""Files that one attempt may hand out."""


class OutputFile(BaseModel):
    """A file that an attempt has handed out."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(description="its path in the container, without the first slash")
    size: int = Field(ge=0, description="bytes")
    sha256: str = Field(description="digest of its contents, in hexadecimal digits")


class OutputFiles(BaseModel):
    """The files that an attempt has handed out, and whether these are all that were asked for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: StoredLogStatus = Field(
        LogStatus.COMPLETE, description="complete: all that was asked for; partial: some; unavailable: none"
    )
    reason: str = Field("", description="why it is not complete, for people")
    files: tuple[OutputFile, ...] = Field((), description="in the order in which they were found")
    stored_by: str = Field(
        "",
        description="id of the job that stored them: another one where its copy succeeded first; empty means this one",
    )
    stored_attempt: int = Field(0, ge=0, description="which of that job's attempts stored them; 0 means this one")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def sentence(self) -> str:
        """Return in one line what there is, and what is missing."""
        text = f"{counted(len(self.files), 'file')}, {self.size:,} bytes"
        return text if self.status is LogStatus.COMPLETE else f"{text}; {self.status}: {self.reason}"


def stored_name(attempt: int, number: int) -> str:
    """Return the name of a file in the store. No part of it comes from the container.

    Args:
        attempt: which attempt.
        number: the file's place in the list, from 0.
    """
    return f"file-{attempt}-{number}"


def _checked(text: str) -> str:
    Pattern(text)
    return text


PatternText = Annotated[str, StringConstraints(max_length=MAX_NAME), AfterValidator(_checked)]
