"""How a network's output becomes a denoised image, in the words that users have for it.

A file seldom says what its network predicts and in which time. A format knows what is usual for it, and the user may say
otherwise, in these arguments, the same for all formats:

| argument | values |
| --- | --- |
| ``prediction`` | ``epsilon``, ``v``, ``sample`` (the image), ``score``, ``flow`` (a velocity), ``edm`` |
| ``schedule`` | of discrete steps: ``linear``, ``cosine``, ``sigmoid``, ``scaled-linear`` |
| ``steps``, ``beta_start``, ``beta_end`` | of that schedule |
| ``rescale_timesteps`` | ``true`` if the network is told steps out of 1,000 whatever their number is |
| ``path`` | of a flow: ``straight``, or ``trigonometric`` (variance-preserving) |
| ``time_scale``, ``toward`` | of a flow: factor on what the network is told; ``noise`` if its time is 1 at the noise |
| ``sigma_data`` | of EDM |
| ``image_range`` | ``[0, 1]`` if its images are not in [−1, 1] |
| ``sigma_scale`` | 2 if it is told a σ that is twice that of its images' noise |
| ``preconditioning``, ``preconditioning.NAME`` | any in `scorescope.networks.preconditionings`, and its arguments |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scorescope.foundation import UserError
from scorescope.networks.preconditioning import preconditionings
from scorescope.networks.readers.formats import Given

PRECONDITIONING = "preconditioning"
PREDICTIONS = ("epsilon", "v", "sample", "score", "flow", "edm")
STEPPED = ("epsilon", "v", "sample", "score")
SCHEDULES = ("linear", "cosine", "sigmoid", "scaled-linear")

PATHS = ("straight", "trigonometric")

Use = tuple[str, dict[str, Any]]

# What a network that is told whole steps may be instead of what it was taken for.
OTHER_STEPPED_USES: tuple[Mapping[str, Any], ...] = (
    *({"prediction": p, "schedule": s} for p in ("epsilon", "v", "sample") for s in ("linear", "cosine", "sigmoid")),
    {"prediction": "flow"},
    {"prediction": "flow", "time_scale": 1000},
    {"prediction": "edm"},
)


def said_use(given: Given) -> Use | None:
    """The preconditioning that the user names outright, None if he does not. Raises UserError for arguments without one."""
    choice = given.take(PRECONDITIONING)
    prefix = PRECONDITIONING + "."
    its = {name.removeprefix(prefix): given.take(name) for name in list(given.left) if name.startswith(prefix)}
    if choice is not None and not isinstance(choice, str):
        raise UserError(f"{PRECONDITIONING} is {choice!r}: give a name")
    if its and choice is None:
        raise UserError(f"{prefix}{next(iter(its))} is given without {PRECONDITIONING}: name that too")
    return None if choice is None else (choice, its)


def stepped_use(
    given: Given,
    *,
    prediction: str = "epsilon",
    schedule: str = "linear",
    steps: int = 1000,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    known: Mapping[str, Any] | None = None,
    whole: bool = False,
    others: Sequence[Mapping[str, Any]] = OTHER_STEPPED_USES,
) -> Use:
    """The use of a network that is told the step of a discrete process, or what the user says it is told instead.

    Args:
        given: the user's words, and where assumptions are written down.
        prediction: usual for the format.
        schedule: usual for the format.
        steps: usual number of steps.
        beta_start: usual first variance of the linear schedules.
        beta_end: usual last variance of them.
        known: arguments of the time variable that the file itself says (``sigmas``), then no schedule is assumed;
            ``prediction`` among them if the file says that too.
        whole: whether the network takes whole steps only.
        others: what else is plausible.

    Raises:
        UserError: a word that is not one of the above.
    """
    outright = said_use(given)
    if outright is not None:
        return outright
    settled = dict(known or {})
    said_prediction, said_schedule = given.take("prediction"), given.take("schedule")
    known_prediction = settled.pop("prediction", None)
    chosen = said_prediction or known_prediction or prediction
    _check("prediction", chosen, PREDICTIONS)
    scales = _scales(given)
    if chosen not in STEPPED:
        return _continuous_use(given, chosen, scales)
    time: dict[str, Any] = {"kind": "table", "between": "nearest"} if whole else {"kind": "table"}
    if settled and said_schedule is None:
        time |= settled
    else:
        time |= _table(given, said_schedule or schedule, steps, beta_start, beta_end)
    missing = []
    if said_prediction is None and known_prediction is None:
        missing.append(f"{_PREDICTED[chosen]} prediction")
    if said_schedule is None and not settled:
        missing.append(_words(time))
    if missing or said_prediction or said_schedule:
        given.assume(" over ".join(missing), others)
    process = {"process": "vp"} if chosen == "score" else {}
    return chosen, {"time": time, **process, **scales}


_PREDICTED = {"epsilon": "noise", "v": "v", "sample": "image", "score": "score", "flow": "velocity", "edm": "EDM's"}


def flow_use(given: Given, others: Sequence[Mapping[str, Any]] = ()) -> Use:
    """The use of a network that predicts a velocity, or what the user says it predicts instead.

    Args:
        given: the user's words, and where assumptions are written down.
        others: what else is plausible.

    Raises:
        UserError: a word that is not one of the above.
    """
    outright = said_use(given)
    if outright is not None:
        return outright
    if given.left.get("prediction", "flow") != "flow":
        return stepped_use(given)
    unsaid = not {"prediction", "path", "time_scale", "toward"} & given.left.keys()
    given.take("prediction")
    given.assume("the velocity of the straight path, time 1 at the image" if unsaid else "", others)
    return _flow(given, _scales(given))


def _scales(given: Given) -> dict[str, Any]:
    """Range of the images and factor on σ, if they are said; that they could be others is written down if they are not."""
    said: dict[str, Any] = {name: given.take(name) for name in ("image_range", "sigma_scale") if name in given.left}
    for name, ways in (("image_range", ([0, 1],)), ("sigma_scale", (2, 0.5))):
        if name not in said:
            given.assume("", [{name: way} for way in ways])
    return said


def _continuous_use(given: Given, prediction: str, scales: dict[str, Any]) -> Use:
    if prediction == "edm":
        if scales:
            raise UserError(f"{next(iter(scales))} does not go with prediction=edm: leave it out")
        sigma_data = given.take("sigma_data")
        return "edm", {} if sigma_data is None else {"sigma_data": sigma_data}
    return _flow(given, scales)


def _flow(given: Given, scales: dict[str, Any]) -> Use:
    path, scale, toward = (given.take(name) for name in ("path", "time_scale", "toward"))
    _check("path", path or PATHS[0], PATHS)
    if path == "trigonometric":
        return "trigonometric-flow", {
            "time": {"kind": "cosine", "toward": "image", "scale": scale or 1.0},
            **scales,
        }
    return "flow", {"time": {"kind": "flow", "scale": scale or 1.0, "toward": toward or "image"}, **scales}


def _table(given: Given, schedule: str, steps: int, beta_start: float, beta_end: float) -> dict[str, Any]:
    _check("schedule", schedule, SCHEDULES)
    said_steps = given.take("steps")
    steps = steps if said_steps is None else said_steps
    table: dict[str, Any] = {"schedule": schedule, "steps": steps}
    start, end = given.take("beta_start"), given.take("beta_end")
    if schedule in ("linear", "scaled-linear"):
        table |= {"beta_start": beta_start if start is None else start, "beta_end": beta_end if end is None else end}
    if given.take("rescale_timesteps"):
        if not isinstance(steps, int) or steps < 1:
            raise UserError(f"steps is {steps!r}: give a whole number")
        table["scale"] = 1000 / steps
    return table


def _words(time: Mapping[str, Any]) -> str:
    return f"the {time['schedule']} schedule of {time['steps']:,} steps"


def _check(name: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UserError(
            f"{name} is {value!r}; allowed: {', '.join(allowed)}; any other use of a network: preconditioning=NAME, of"
            f" {', '.join(preconditionings)}"
        )
