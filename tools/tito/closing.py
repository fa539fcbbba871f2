"""A base class for context managers that close at the end of their `with`."""

from abc import abstractmethod
from contextlib import AbstractContextManager
from types import TracebackType


class Closing(AbstractContextManager):
    @abstractmethod
    def close(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
