"""Answers about published numbers, for programs: plain functions with typed results, which the HTTP API and the MCP server give out."""
