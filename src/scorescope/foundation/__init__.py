"""What every room stands on: errors that a user can act on, files that are never half-written, names, progress."""

from scorescope.foundation.errors import UserError
from scorescope.foundation.files import new_file, new_folder
from scorescope.foundation.progress import track
from scorescope.foundation.registry import Registry

__all__ = ["Registry", "UserError", "new_file", "new_folder", "track"]
