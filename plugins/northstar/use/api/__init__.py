"""The HTTP API: answers about published numbers over HTTP, for programs and spreadsheets."""
