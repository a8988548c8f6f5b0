"""The base of all other packages: settings, errors, files, ports and formats. It knows nothing of warehouses, stages or companies."""
