"""The same answers for language models, by the Model Context Protocol."""
