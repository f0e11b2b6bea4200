"""Benchmark and chaos tools: measure the service, and inject faults. Not part of the production image."""
