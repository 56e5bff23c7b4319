"""Where runs are kept, which run is which, and what goes out of stores."""
