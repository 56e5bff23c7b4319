"""What all of the lab rests on: pytrees, loops over steps, lookups by name, files that are whole, versions."""
