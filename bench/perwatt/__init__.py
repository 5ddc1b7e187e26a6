"""perwatt: how fast an accelerator does the work of transformer training, at what energy and what cost."""

__version__ = "0.1.0"
