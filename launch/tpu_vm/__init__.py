"""Queued resources and `tpu-vm ssh`: for one researcher with a quota and no cluster."""
