"""The catalogue as the control plane serves it; what it is and how it is read stands in `worker.store.curated`."""

from __future__ import annotations

from worker.store.curated import Capability, Catalogue, CatalogueModel, Variant, load, load_from

__all__ = ["Capability", "Catalogue", "CatalogueModel", "Variant", "load", "load_from"]
