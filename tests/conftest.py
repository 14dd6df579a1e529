"""Before any test module imports torch."""

import signal

from hypothesis import settings

from textpro_stream.runtime.prepare import prepare

# A script's background job is born deaf to Ctrl-C, and so would be every process we start.
signal.signal(signal.SIGINT, signal.default_int_handler)

prepare()

# A busy machine stalls in the middle of an example; that says nothing about the property.
# The same examples in each run: what a gate says of a commit, it says again. Others are searched
# with `pytest --hypothesis-profile=search`.
settings.register_profile("textpro", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile("textpro")
