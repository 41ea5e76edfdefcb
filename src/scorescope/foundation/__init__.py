"""What every room stands on: errors that a user can act on, files that are never half-written, names, progress."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.foundation.errors import UserError
    from scorescope.foundation.files import new_file, new_folder
    from scorescope.foundation.progress import track
    from scorescope.foundation.registry import Registry
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = ["Registry", "UserError", "new_file", "new_folder", "track"]
