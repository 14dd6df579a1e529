"""Before any test module imports torch."""

import signal

from hypothesis import settings

from textpro_stream.runtime.prepare import prepare

# A script's background job is born deaf to Ctrl-C, and so would be every process we start.
signal.signal(signal.SIGINT, signal.default_int_handler)

prepare()

# A busy machine stalls in the middle of an example; that says nothing about the property.
settings.register_profile("textpro", deadline=None)
settings.load_profile("textpro")
