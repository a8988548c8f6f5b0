"""The kinds of panels, a file each: from the published marts to a Plotly figure."""
