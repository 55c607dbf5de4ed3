"""The paper's data sets: one record each, their splits and their layouts."""
