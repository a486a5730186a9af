"""Networks of other libraries: trained by their own trainers, and built by name."""

from featlift.integrations.upgraded_trainer import upgraded_trainer

__all__ = ["upgraded_trainer"]
