"""Before any test module imports torch."""

import os
import signal

from hypothesis import settings

# A script's background job is born deaf to Ctrl-C, and so would be every process we start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# As the engine does for itself: threads that spin while they wait make busy machines crawl.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A busy machine stalls in the middle of an example; that says nothing about the property.
settings.register_profile("textpro", deadline=None)
settings.load_profile("textpro")
