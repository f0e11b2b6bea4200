"""The platform's titles and their educational mark."""
