"""The simulated imaging experiment: nuclei that live, move and divide, and a microscope that writes CZI.

Nothing heavy is imported here. :mod:`.params` holds what can be set, :mod:`.run` makes a dataset.
"""

from hyped_imaging.simulate.params import SimulateParams

__all__ = ["SimulateParams"]
