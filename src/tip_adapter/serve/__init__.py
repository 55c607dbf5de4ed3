"""Classify photos over HTTP: `tip-adapter serve`."""
