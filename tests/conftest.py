"""Before any test module imports torch."""

import os

from hypothesis import settings

# As the engine does for itself: threads that spin while they wait make busy machines crawl.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A busy machine stalls in the middle of an example; that says nothing about the property.
settings.register_profile("textpro", deadline=None)
settings.load_profile("textpro")
