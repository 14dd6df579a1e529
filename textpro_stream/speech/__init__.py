"""Reply text -> clauses -> audio, in a worker process."""
