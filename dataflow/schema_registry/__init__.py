"""The schema registry: schemas of the requests that name one, and those of the outputs."""
