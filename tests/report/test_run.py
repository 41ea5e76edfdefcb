"""A study from settings to page, and again after an interruption."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pydantic
import pytest

from scorescope.foundation import UserError
from scorescope.report import run_study
from scorescope.study import Results, Study, Workspace


class Config(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    steps: int = 3


class Squares(Study[Config]):
    name = "test/squares"
    title = "Squares"
    question = "What are the squares?"
    Config = Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"tiny": {}, "small": {}, "paper": {}}

    def __init__(self, stop_at: int = -1) -> None:
        self.stop_at = stop_at
        self.computed: list[int] = []

    def run(self, config: Config, workspace: Workspace) -> Results:
        squares = [
            workspace.computed(f"step {step}", lambda step=step: self.square(step)) for step in range(config.steps)
        ]
        return Results(study=self.name, title=self.title, headline=f"They are {squares}.")

    def square(self, step: int) -> int:
        if step == self.stop_at:
            raise KeyboardInterrupt
        self.computed.append(step)
        return step**2


@pytest.mark.slow
def test_an_interrupted_study_ends_like_an_uninterrupted_one(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_study(Squares(stop_at=2), Config(), tmp_path / "run")
    assert "ended after 2 parts: it was interrupted" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    again = Squares()
    results = run_study(again, Config(), tmp_path / "run")
    assert again.computed == [2]
    assert results.headline == "They are [0, 1, 4]."
    assert results.question == Squares.question
    assert list(results.timings) == ["step 0", "step 1", "step 2"]
    assert "They are [0, 1, 4]." in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert Results.load(tmp_path / "run").headline == run_study(Squares(), Config(), tmp_path / "other").headline
    with pytest.raises(UserError, match="finished run"):
        run_study(Squares(), Config(), tmp_path / "run")
