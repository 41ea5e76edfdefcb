"""What people run: the demo, an audit, one model under the microscope, the training of a network."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.jobs.audit import Audit
    from scorescope.jobs.demo import Demo
    from scorescope.jobs.explain import Explain
    from scorescope.jobs.train import Train
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = ["Audit", "Demo", "Explain", "Train"]
