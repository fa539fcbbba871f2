"""The verbs of the command `tito`, one file each."""
