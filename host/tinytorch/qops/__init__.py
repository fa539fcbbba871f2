"""The integer specification in numpy, a whole batch at a time."""
