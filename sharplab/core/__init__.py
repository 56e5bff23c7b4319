"""Helpers without a subject of their own: pytree algebra, loops over steps, lookup by name, atomic files, versions."""
