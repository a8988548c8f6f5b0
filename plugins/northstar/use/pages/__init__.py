"""The pages: the published marts, as people look at them. `app` builds them from `pages.yml`, `data` reads, `figures` draws."""
