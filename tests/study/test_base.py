"""Settings of a study: presets, overrides from a command line, and one line for each mistake."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pydantic
import pytest

import scorescope.jobs
import scorescope.papers  # noqa: F401 - registers the studies
from scorescope.foundation import UserError
from scorescope.study import Results, Study, Workspace, studies, study


class Training(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    steps: int = pydantic.Field(100, ge=1)
    rate: float = 0.01


class Config(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    data: str = "digits"
    sizes: tuple[pydantic.PositiveInt, ...] = (10, 100)
    mechanisms: list[str] | None = None
    training: Training = Training()
    flips: bool = True


class Counting(Study[Config]):
    name = "test/counting"
    title = "Counting"
    Config = Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"sizes": (2,), "training": {"steps": 5}},
        "small": {},
        "paper": {},
    }

    def run(self, config: Config, workspace: Workspace) -> Results:
        return Results(study=self.name, title=self.title)


def test_presets_and_overrides_reach_into_groups():
    config = Counting.configure("tiny", ["training.rate=1e-3", "flips=no"], data="disks")
    assert config.training == Training(steps=5, rate=1e-3)
    assert (config.sizes, config.data, config.flips) == ((2,), "disks", False)
    assert Counting.configure().training.steps == 100


def test_setting_one_key_of_a_group_leaves_what_its_default_says_of_the_others():
    class Quick(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")
        training: Training = Training(steps=7)

    class Hurrying(Counting):
        name = "test/hurrying"
        Config = Quick
        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"tiny": {}, "small": {}, "paper": {}}

    assert Hurrying.configure("small", ["training.rate=1"]).training == Training(steps=7, rate=1)


@pytest.mark.parametrize(
    ("text", "sizes"), [("sizes=1,10,100", (1, 10, 100)), ("sizes=[3, 4]", (3, 4)), ("sizes=7", (7,)), ("sizes=", ())]
)
def test_lists_as_people_write_them(text, sizes):
    assert Counting.configure("small", [text]).sizes == sizes


def test_text_that_looks_like_a_number_stays_text_where_text_is_meant():
    config = Counting.configure("small", ["data=007", "mechanisms=gaussian, optimal"])
    assert (config.data, config.mechanisms) == ("007", ["gaussian", "optimal"])
    assert Counting.configure("small", ["mechanisms=null"]).mechanisms is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["stps=3"], "no setting is called 'stps'"),
        (["training.step=3"], "did you mean 'training.steps'?"),
        (["training=3"], "group of settings: set one of training.steps, training.rate"),
        (["training.steps=many"], "training.steps=many"),
        (["training.steps=0"], "greater than or equal to 1"),
        (["sizes=1,-2"], "sizes.1=-2"),
        (["sizes=[1"], "not valid JSON"),
        (["steps"], "KEY=VALUE"),
    ],
)
def test_mistakes_are_one_line(overrides, said):
    with pytest.raises(UserError) as caught:
        Counting.configure("tiny", overrides)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_presets_and_keys_are_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'small'"):
        Counting.configure("smal")
    with pytest.raises(UserError, match="did you mean 'data'"):
        Counting.configure("tiny", dta="digits")


def test_a_study_without_presets_or_with_loose_settings_is_not_registered():
    class Loose(Counting):
        name = "test/loose"
        Config = pydantic.create_model("Config")

    class Incomplete(Counting):
        name = "test/incomplete"
        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"tiny": {}}

    for wrong, said in ((Loose, "extra"), (Incomplete, "small")):
        with pytest.raises(ValueError, match=said):
            study(wrong)
        assert wrong.name not in studies


def test_every_registered_study_has_presets_that_are_valid():
    assert len(studies) > 0
    for name, entry in studies.items():
        assert entry.title, name
        for preset in entry.presets:
            assert isinstance(entry.configure(preset), pydantic.BaseModel)
