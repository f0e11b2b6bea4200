"""HTTP helpers that all features share: requests, problems, pagination, preconditions."""
