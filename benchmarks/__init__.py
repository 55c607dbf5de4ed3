"""Measurements that docs/results states: each case is a record, one timer, one renderer. Run by hand, `make bench`."""
