"""The `textpro` command."""
