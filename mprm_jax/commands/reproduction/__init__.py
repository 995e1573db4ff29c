"""The paper's experiments: which commands they are, and what the report makes of their results."""
