"""Any classifier of timm or torchvision by its name there. May import what its parent room holds."""

from hkbench.models.foreign.timm_models import timm_entry
from hkbench.models.foreign.torchvision_models import torchvision_entry

__all__ = ["timm_entry", "torchvision_entry"]
