"""The paper: its data sets, experiments and published numbers as data, run and rendered."""
