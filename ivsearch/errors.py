"""Everything ivsearch raises on purpose.

::

    IvsearchError                 exit 1  base; its text says what is wrong and what to do
    ├── UsageError                exit 2  an argument or setting makes no sense
    ├── MediaError                exit 1  one file cannot be read (indexing turns it into Skipped)
    ├── WeightsError              exit 4  model weights are not at hand, incomplete, or not what they claim
    ├── NotFinite                 exit 1  a model gave NaN or infinity (indexing turns it into Skipped)
    ├── NetworkError              exit 4  a model server cannot be reached, or does not do what it should
    │   └── AnswerCut             exit 4  its answer broke off; what had come is in ``text``
    └── LibraryError              exit 1  the library on disk
        ├── LibraryMissing        exit 2  there is none at that path
        ├── LibraryBusy           exit 1  another process is writing to it
        ├── LibraryTooNew         exit 1  it was written by a newer ivsearch; nothing is wrong with it
        ├── LibraryDamaged        exit 1  a checksum or a row does not fit; says what to run
        └── SpaceMismatch         exit 2  vectors of two encoders were about to meet
"""

from __future__ import annotations


class IvsearchError(Exception):
    """Base of every error raised on purpose. ``exit_code`` is what the command line ends with."""

    exit_code = 1


class UsageError(IvsearchError):
    exit_code = 2


class MediaError(IvsearchError):
    pass


class WeightsError(IvsearchError):
    exit_code = 4


class NotFinite(IvsearchError, ArithmeticError):
    pass


class NetworkError(IvsearchError):
    exit_code = 4


class AnswerCut(NetworkError):
    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


class LibraryError(IvsearchError):
    pass


class LibraryMissing(LibraryError):
    exit_code = 2


class LibraryBusy(LibraryError):
    pass


class LibraryTooNew(LibraryError):
    pass


class LibraryDamaged(LibraryError):
    pass


class SpaceMismatch(LibraryError):
    exit_code = 2
