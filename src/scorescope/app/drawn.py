"""What a function on one denoiser gives back: numbers, and a picture that a notebook shows and a file can hold."""

from __future__ import annotations

import base64
import html
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorescope.app.output import PictureFile

if TYPE_CHECKING:
    import pandas as pd

    from scorescope.study.pictures import Sheet


class Drawn(ABC):
    """Numbers and a picture. A notebook shows both; a command prints the one and writes the other."""

    @abstractmethod
    def sheet(self) -> Sheet:
        """The picture."""

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """What was found, by name, as JSON holds it."""

    @abstractmethod
    def words(self, where: str = "") -> str:
        """What was found, in one or a few lines; `where` follows the numbers, as the place of the picture does."""

    @property
    def table(self) -> pd.DataFrame:
        """The numbers as a data frame of one row."""
        import pandas as pd

        return pd.DataFrame([self.numbers()])

    def save(self, path: Path | str, *, force: bool = False) -> Path:
        """Write the picture, in the format of the path's ending.

        Raises UserError for another ending, and for a file that is there, unless `force` is set.
        """
        file = PictureFile(Path(path), force)
        file.write(self.sheet())
        return file.path

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self.sheet().png()).decode()
        lines = "<br>".join(html.escape(line) for line in self.words().splitlines())
        return f'<p>{lines}</p><img style="max-width:100%" src="data:image/png;base64,{picture}">'
