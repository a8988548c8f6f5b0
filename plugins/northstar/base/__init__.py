"""What every room stands on: settings, errors, files, ports, words and formats. Knows nothing of warehouses, stages or companies."""
