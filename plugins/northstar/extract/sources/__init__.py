"""Connectors: one module for each source system. They yield raw Arrow batches; landing validates and stores them."""
