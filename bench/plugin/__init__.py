"""A package of actions for `plugins:` in settings: what `make bench` measures the way to `apply` with."""
