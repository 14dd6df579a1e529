"""Before any test module imports torch."""

import os

# As the engine does for itself: threads that spin while they wait make busy machines crawl.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
