"""What people run: the demo, an audit, one model under the microscope, one of its samples, the training of a network."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.jobs.attribute import Attribute
    from scorescope.jobs.audit import Audit
    from scorescope.jobs.demo import Demo
    from scorescope.jobs.explain import Explain
    from scorescope.jobs.train import Train
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = ["Attribute", "Audit", "Demo", "Explain", "Train"]
