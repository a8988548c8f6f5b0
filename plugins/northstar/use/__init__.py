"""Stage 5, use: everything that reads the published marts, as `bi_reader`: pages, reports, alerts, explain, forecasts, queries."""
