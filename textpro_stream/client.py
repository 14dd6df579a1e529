"""Python client of the lean route. It imports neither torch nor the pipeline."""
