"""The paper: its data sets, experiments and published numbers as data; one runner, three renderers."""
